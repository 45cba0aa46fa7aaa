//! Socket filters (the kernel's Documentation/networking/filter.rst) for packet sockets that get what is behind the
//! link-layer header: what does not pass wakes nobody.

use libc::sock_filter;

const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const TO_INDEX: u32 = libc::BPF_MISC | libc::BPF_TAX;
const JUMP_IF: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const JUMP_IF_INDEX: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_X;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

const fn step(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

/// Nothing passes.
pub(crate) const NOTHING: [sock_filter; 1] = [step(RETURN, 0, 0, 0)];

/// ARP replies, and requests in which sender and target address are the same.
pub(crate) const ARP_CLAIMS: [sock_filter; 8] = [
    step(LOAD_HALF, 0, 0, 6), // operation
    step(JUMP_IF, 4, 0, 2),
    step(LOAD_WORD, 0, 0, 24), // target
    step(TO_INDEX, 0, 0, 0),
    step(LOAD_WORD, 0, 0, 14), // sender
    step(JUMP_IF_INDEX, 0, 1, 0),
    step(RETURN, 0, 0, u32::MAX),
    step(RETURN, 0, 0, 0),
];

/// ARP replies.
pub(crate) const ARP_REPLIES: [sock_filter; 4] = [
    step(LOAD_HALF, 0, 0, 6), // operation
    step(JUMP_IF, 0, 1, 2),
    step(RETURN, 0, 0, u32::MAX),
    step(RETURN, 0, 0, 0),
];

/// ICMPv6 neighbour advertisements.
pub(crate) const NEIGHBOUR_ADVERTISEMENTS: [sock_filter; 6] = [
    step(LOAD_BYTE, 0, 0, 6), // next header
    step(JUMP_IF, 0, 3, 58),
    step(LOAD_BYTE, 0, 0, 40), // type
    step(JUMP_IF, 0, 1, 136),
    step(RETURN, 0, 0, u32::MAX),
    step(RETURN, 0, 0, 0),
];
