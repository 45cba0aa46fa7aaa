//! As much of an assembler for eBPF (the kernel's `Documentation/bpf/standardization/instruction-set.rst`) as the
//! gate's program needs: instructions appended in order, and labels for jumps forward. What a program says is for
//! `program`.

/// One instruction as the kernel takes it: `struct bpf_insn`.
pub(super) type Instruction = [u8; 8];

/// A register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Register(u8);

/// Results of calls, and of the program.
pub(super) const R0: Register = Register(0);
/// R1 to R5 are a call's arguments and lost by it.
pub(super) const R1: Register = Register(1);
/// See [`R1`].
pub(super) const R2: Register = Register(2);
/// See [`R1`].
pub(super) const R3: Register = Register(3);
/// See [`R1`].
pub(super) const R4: Register = Register(4);
/// R6 to R9 survive calls.
pub(super) const R6: Register = Register(6);
/// See [`R6`].
pub(super) const R7: Register = Register(7);
/// See [`R6`].
pub(super) const R8: Register = Register(8);
/// See [`R6`].
pub(super) const R9: Register = Register(9);
/// The end of 512 bytes of stack, read-only.
pub(super) const FRAME: Register = Register(10);

/// How many bytes a load or store moves: the instruction set's size modifiers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Size {
    /// One.
    Byte = 0x10,
    /// Two.
    Half = 0x08,
    /// Four.
    Word = 0x00,
    /// Eight.
    Double = 0x18,
}

/// When a jump is taken; 64 bits are compared, as unsigned numbers.
#[derive(Debug, Clone, Copy)]
pub(super) enum When {
    /// Both are equal.
    Equal = 0x10,
    /// They differ.
    Different = 0x50,
    /// The first is greater.
    Greater = 0x20,
    /// The first is greater or equal.
    AtLeast = 0x30,
}

/// A place in the program to which jumps lead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Label(usize);

// Instruction classes.
const LD: u8 = 0x00;
const LDX: u8 = 0x01;
const ST: u8 = 0x02;
const STX: u8 = 0x03;
const JMP: u8 = 0x05;
const ALU64: u8 = 0x07;
// Source operand: an immediate number or a register.
const IMMEDIATE: u8 = 0x00;
const REGISTER: u8 = 0x08;
// Operations.
const ADD: u8 = 0x00;
const SUB: u8 = 0x10;
const MOV: u8 = 0xb0;
const ALWAYS: u8 = 0x00;
const CALL: u8 = 0x80;
const EXIT: u8 = 0x90;
// Modes of loads and stores.
const WHOLE_NUMBER: u8 = 0x00;
const MEMORY: u8 = 0x60;
const ATOMIC: u8 = 0xc0;
/// The immediate number is a map's descriptor: `BPF_PSEUDO_MAP_FD`.
const MAP_DESCRIPTOR: Register = Register(1);

/// A program under construction.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    code: Vec<Instruction>,
    /// Where each label is, once it is placed.
    labels: Vec<Option<usize>>,
    /// Jumps whose offset is still to be filled in.
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    /// A label, to be placed later.
    pub(super) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Puts a label before the next instruction.
    pub(super) fn place(&mut self, label: Label) {
        let before = self.labels[label.0].replace(self.code.len());
        assert!(before.is_none(), "a label is placed once");
    }

    /// `to = from`.
    pub(super) fn copy(&mut self, to: Register, from: Register) {
        self.push(ALU64 | REGISTER | MOV, to, from, 0, 0);
    }

    /// `to = number`.
    pub(super) fn set(&mut self, to: Register, number: i32) {
        self.push(ALU64 | IMMEDIATE | MOV, to, R0, 0, number);
    }

    /// `to = number`, of 64 bits.
    pub(super) fn set_wide(&mut self, to: Register, number: u64) {
        self.push_wide(to, R0, number);
    }

    /// `to = map`, for a call.
    pub(super) fn set_map(&mut self, to: Register, descriptor: i32) {
        self.push_wide(to, MAP_DESCRIPTOR, u64::from(descriptor.cast_unsigned()));
    }

    /// `to += number`.
    pub(super) fn add(&mut self, to: Register, number: i32) {
        self.push(ALU64 | IMMEDIATE | ADD, to, R0, 0, number);
    }

    /// `to -= from`.
    pub(super) fn subtract(&mut self, to: Register, from: Register) {
        self.push(ALU64 | REGISTER | SUB, to, from, 0, 0);
    }

    /// `to = *(base + offset)`.
    pub(super) fn load(&mut self, size: Size, to: Register, base: Register, offset: i16) {
        self.push(LDX | MEMORY | size as u8, to, base, offset, 0);
    }

    /// `*(base + offset) = from`.
    pub(super) fn store(&mut self, size: Size, base: Register, offset: i16, from: Register) {
        self.push(STX | MEMORY | size as u8, base, from, offset, 0);
    }

    /// `*(base + offset) = number`.
    pub(super) fn store_number(&mut self, size: Size, base: Register, offset: i16, number: i32) {
        self.push(ST | MEMORY | size as u8, base, R0, offset, number);
    }

    /// `*(base + offset) += from`, of 64 bits, atomically.
    pub(super) fn add_to_memory(&mut self, base: Register, offset: i16, from: Register) {
        self.push(STX | ATOMIC | Size::Double as u8, base, from, offset, ADD.into());
    }

    /// Calls a helper by its number (`BPF_FUNC_*`); the result is in [`R0`].
    pub(super) fn call(&mut self, helper: i32) {
        self.push(JMP | CALL, R0, R0, 0, helper);
    }

    /// Jumps.
    pub(super) fn jump(&mut self, to: Label) {
        self.push_jump(JMP | ALWAYS, R0, R0, 0, to);
    }

    /// Jumps where `first` and `number` are so.
    pub(super) fn jump_if(&mut self, first: Register, when: When, number: i32, to: Label) {
        self.push_jump(JMP | IMMEDIATE | when as u8, first, R0, number, to);
    }

    /// Jumps where `first` and `second` are so.
    pub(super) fn jump_if_register(&mut self, first: Register, when: When, second: Register, to: Label) {
        self.push_jump(JMP | REGISTER | when as u8, first, second, 0, to);
    }

    /// Ends the program with this result.
    pub(super) fn finish_with(&mut self, result: i32) {
        self.set(R0, result);
        self.push(JMP | EXIT, R0, R0, 0, 0);
    }

    /// The program.
    pub(super) fn assemble(mut self) -> Vec<Instruction> {
        for (at, label) in std::mem::take(&mut self.jumps) {
            let to = self.labels[label.0].expect("every label that is jumped to is placed");
            // Counted from the next instruction. The kernel refuses jumps back that could be endless, so there are none.
            let offset = to.checked_sub(at + 1).and_then(|offset| i16::try_from(offset).ok());
            let offset = offset.expect("jumps lead forward, and the program is short");
            self.code[at][2..4].copy_from_slice(&offset.to_ne_bytes());
        }
        self.code
    }

    fn push_jump(&mut self, code: u8, first: Register, second: Register, number: i32, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.push(code, first, second, 0, number);
    }

    /// A 64-bit number takes two instructions, the upper half in the second.
    fn push_wide(&mut self, to: Register, kind: Register, number: u64) {
        let [low, high] = [number as u32, (number >> 32) as u32].map(u32::cast_signed);
        self.push(LD | WHOLE_NUMBER | Size::Double as u8, to, kind, 0, low);
        self.push(0, R0, R0, 0, high);
    }

    fn push(&mut self, code: u8, destination: Register, source: Register, offset: i16, number: i32) {
        // Two bit fields of C, whose order follows the machine's byte order.
        let registers = if cfg!(target_endian = "little") {
            destination.0 | source.0 << 4
        } else {
            destination.0 << 4 | source.0
        };
        let ([a, b], [c, d, e, f]) = (offset.to_ne_bytes(), number.to_ne_bytes());
        self.code.push([code, registers, a, b, c, d, e, f]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As LLVM's assembler encodes them.
    #[cfg(target_endian = "little")]
    #[test]
    fn instructions_are_encoded_as_others_encode_them() {
        let mut program = Assembler::default();
        let end = program.label();
        program.copy(R6, R1);
        program.jump_if(R0, When::Different, 0, end);
        program.load(Size::Word, R1, FRAME, -20);
        program.add_to_memory(R8, 24, R1);
        program.set_wide(R3, 0x1234_5678_9abc_def0);
        program.place(end);
        program.finish_with(-1);
        let expected: &[Instruction] = &[
            [0xbf, 0x16, 0, 0, 0, 0, 0, 0],
            [0x55, 0x00, 4, 0, 0, 0, 0, 0],
            [0x61, 0xa1, 0xec, 0xff, 0, 0, 0, 0],
            [0xdb, 0x18, 24, 0, 0, 0, 0, 0],
            [0x18, 0x03, 0, 0, 0xf0, 0xde, 0xbc, 0x9a],
            [0x00, 0x00, 0, 0, 0x78, 0x56, 0x34, 0x12],
            [0xb7, 0x00, 0, 0, 0xff, 0xff, 0xff, 0xff],
            [0x95, 0x00, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(program.assemble(), expected);
    }

    #[test]
    #[should_panic(expected = "every label that is jumped to is placed")]
    fn a_label_that_is_nowhere_is_found() {
        let mut program = Assembler::default();
        let nowhere = program.label();
        program.jump(nowhere);
        program.assemble();
    }
}
