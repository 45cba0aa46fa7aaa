//! The OpenAPI document (<https://spec.openapis.org/oas/v3.1.0>), made from the table of endpoints and the types of their bodies,
//! so that none can be added without it.

use super::callers::Needs;
use super::routes::Api;
use crate::api::{CSRF_HEADER, PREFIX, Problem};
use access::Name;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::routing::{MethodRouter, delete, get, post};
use domain::{AppName, PairName};
use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

/// What a type looks like.
type Shape = fn(&mut SchemaGenerator) -> Schema;

/// One method of an endpoint, with what goes in and out.
pub(super) struct Operation {
    pub(super) methods: MethodRouter<Api>,
    method: &'static str,
    summary: &'static str,
    query: Option<Shape>,
    body: Option<Shape>,
    answer: Answer,
}

enum Answer {
    Json(u16, Shape),
    Events,
    Page,
    /// Goes on elsewhere; where it does not, a page says why.
    Elsewhere,
}

/// `GET` with a query `Q` (`()`: none), answered with an `A`.
pub(super) fn reads<Q: JsonSchema, A: JsonSchema, H: Handler<T, Api>, T: 'static>(
    handler: H,
    summary: &'static str,
) -> Operation {
    Operation {
        methods: get(handler),
        method: "get",
        summary,
        query: Some(shape::<Q>),
        body: None,
        answer: Answer::Json(200, shape::<A>),
    }
}

/// `GET` answered with server-sent events.
pub(super) fn streams<Q: JsonSchema, H: Handler<T, Api>, T: 'static>(
    handler: H,
    summary: &'static str,
) -> Operation {
    Operation { answer: Answer::Events, ..reads::<Q, (), H, T>(handler, summary) }
}

/// `GET` answered with a page for people, text or HTML.
pub(super) fn shows<Q: JsonSchema, H: Handler<T, Api>, T: 'static>(
    handler: H,
    summary: &'static str,
) -> Operation {
    Operation { answer: Answer::Page, ..reads::<Q, (), H, T>(handler, summary) }
}

/// `GET` by a browser that is sent on elsewhere.
pub(super) fn goes_on<Q: JsonSchema, H: Handler<T, Api>, T: 'static>(
    handler: H,
    summary: &'static str,
) -> Operation {
    Operation { answer: Answer::Elsewhere, ..reads::<Q, (), H, T>(handler, summary) }
}

/// `POST` of a `B`, answered with 200 and an `A`.
pub(super) fn takes<B: JsonSchema, A: JsonSchema, H: Handler<T, Api>, T: 'static>(
    handler: H,
    summary: &'static str,
) -> Operation {
    Operation {
        methods: post(handler),
        method: "post",
        summary,
        query: None,
        body: Some(shape::<B>),
        answer: Answer::Json(200, shape::<A>),
    }
}

/// `POST` of an order `B`, answered with 202 and an `A`.
pub(super) fn orders<B: JsonSchema, A: JsonSchema, H: Handler<T, Api>, T: 'static>(
    handler: H,
    summary: &'static str,
) -> Operation {
    Operation { answer: Answer::Json(202, shape::<A>), ..takes::<B, A, H, T>(handler, summary) }
}

/// `DELETE`, answered with an `A`.
pub(super) fn removes<A: JsonSchema, H: Handler<T, Api>, T: 'static>(
    handler: H,
    summary: &'static str,
) -> Operation {
    Operation {
        methods: delete(handler),
        method: "delete",
        summary,
        query: None,
        body: None,
        answer: Answer::Json(200, shape::<A>),
    }
}

/// `DELETE` that is an order, answered with 202 and an `A`.
pub(super) fn revokes<A: JsonSchema, H: Handler<T, Api>, T: 'static>(
    handler: H,
    summary: &'static str,
) -> Operation {
    Operation { answer: Answer::Json(202, shape::<A>), ..removes::<A, H, T>(handler, summary) }
}

impl Operation {
    /// Takes bodies up to this size, bytes.
    pub(super) fn of_at_most(self, bytes: usize) -> Self {
        Self { methods: self.methods.layer(DefaultBodyLimit::max(bytes)), ..self }
    }
}

fn shape<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// The document in the making.
pub(super) struct Document {
    generator: SchemaGenerator,
    paths: Map<String, Value>,
}

impl Document {
    pub(super) fn new() -> Self {
        let mut settings = SchemaSettings::draft2020_12();
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
        Self { generator: settings.into_generator(), paths: Map::new() }
    }

    /// Adds an operation at a path below the API's prefix.
    pub(super) fn add(&mut self, needs: Needs, path: &str, operation: &Operation) {
        let generator = &mut self.generator;
        let in_path = path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
        let mut parameters: Vec<Value> = in_path
            .map(|name| {
                let schema = in_path_as(name, generator);
                json!({ "name": name, "in": "path", "required": true, "schema": schema })
            })
            .collect();
        parameters.extend(operation.query.into_iter().flat_map(|query| in_query(query, generator)));
        if operation.body.is_some() && needs != Needs::Nobody {
            let schema = json!({ "type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$" });
            let what = "names the order: sent again with the same key, it is not carried out again";
            parameters.push(
                json!({ "name": "Idempotency-Key", "in": "header", "description": what, "schema": schema }),
            );
        }
        let problem = json!({ "description": "not done; `detail` says why, and what to do",
            "content": { "application/problem+json": { "schema": shape::<Problem>(generator) } } });
        let (status, answer) = match operation.answer {
            Answer::Json(status, answer) => {
                let content = json!({ "application/json": { "schema": answer(generator) } });
                (status, json!({ "description": "done", "content": content }))
            }
            Answer::Events => {
                (200, json!({ "description": "live events", "content": { "text/event-stream": {} } }))
            }
            Answer::Elsewhere => (303, json!({ "description": "it goes on elsewhere" })),
            Answer::Page => {
                (200, json!({ "description": "a page", "content": { "text/plain": {}, "text/html": {} } }))
            }
        };
        // What a person is told there is a page.
        let problem = match operation.answer {
            Answer::Elsewhere => json!({ "description": "not done; the page says why, and what to do",
                "content": { "text/html": {}, "application/problem+json": { "schema": shape::<Problem>(generator) } } }),
            Answer::Json(..) | Answer::Events | Answer::Page => problem,
        };
        let who = match needs {
            Needs::Nobody => "Needs no login.".to_owned(),
            Needs::Role(role) => format!("Needs the role {role}."),
        };
        let mut about = json!({
            "summary": operation.summary,
            "description": who,
            "parameters": parameters,
            "responses": { status.to_string(): answer, "default": problem },
        });
        if let Some(body) = operation.body {
            about["requestBody"] =
                json!({ "required": true, "content": { "application/json": { "schema": body(generator) } } });
        }
        if needs == Needs::Nobody {
            about["security"] = json!([]);
        }
        let entry = self.paths.entry(format!("{PREFIX}{path}")).or_insert_with(|| json!({}));
        entry[operation.method] = about;
    }

    /// The document as it is served.
    pub(super) fn finish(mut self, release: &str) -> String {
        let schemas = self.generator.take_definitions(true);
        let document = json!({
            "openapi": "3.1.0",
            "info": {
                "title": "Takeover",
                "version": release,
                "description": "The Solution Control Interface. Times are microseconds since the Unix epoch.",
                "license": { "name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT" },
            },
            "servers": [{ "url": "/" }],
            "security": [{ "token": [] }, { "session": [], "csrf": [] }],
            "paths": self.paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": {
                    "token": { "type": "http", "scheme": "bearer" },
                    "session": { "type": "apiKey", "in": "cookie", "name": "__Host-takeover" },
                    "csrf": { "type": "apiKey", "in": "header", "name": CSRF_HEADER },
                },
            },
        });
        document.to_string()
    }
}

/// What stands in a path by this name.
fn in_path_as(name: &str, generator: &mut SchemaGenerator) -> Value {
    match name {
        "id" | "number" => json!({ "type": "integer", "minimum": 0 }),
        "pair" => shape::<PairName>(generator).into(),
        "app" => shape::<AppName>(generator).into(),
        "name" => shape::<Name>(generator).into(),
        _ => json!({ "type": "string", "minLength": 1 }),
    }
}

/// The fields of a query as parameters.
fn in_query(query: Shape, generator: &mut SchemaGenerator) -> Vec<Value> {
    let schema = query(generator);
    let named = schema
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|path| path.rsplit('/').next())
        .map(str::to_owned);
    let fields = match &named {
        Some(name) => generator.definitions().get(name),
        None => None,
    };
    let properties = fields.and_then(|fields| fields.get("properties")).and_then(Value::as_object).cloned();
    let parameter = |(name, schema): (String, Value)| {
        let about = schema.get("description").cloned().unwrap_or_default();
        json!({ "name": name, "in": "query", "description": about, "schema": without_null(schema) })
    };
    properties.into_iter().flatten().map(parameter).collect()
}

/// A parameter is left out, never null.
fn without_null(mut schema: Value) -> Value {
    if let Some(kinds) = schema.get_mut("type").and_then(Value::as_array_mut) {
        kinds.retain(|kind| kind != "null");
        if let [only] = kinds.as_slice() {
            schema["type"] = only.clone();
        }
    }
    if let Some(kinds) = schema.get_mut("anyOf").and_then(Value::as_array_mut) {
        kinds.retain(|kind| kind["type"] != "null");
    }
    if schema["default"].is_null()
        && let Some(fields) = schema.as_object_mut()
    {
        fields.remove("default");
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Because, Status};
    use access::Role;
    use scs::store::IncidentFilter;

    async fn nothing() {}

    #[test]
    fn the_document_is_whole() {
        let mut document = Document::new();
        let needs = Needs::Role(Role::Viewer);
        document.add(needs, "/status", &reads::<(), Status, _, _>(nothing, "what is so now"));
        document.add(
            Needs::Nobody,
            "/pairs/{pair}/x/{id}",
            &takes::<Because, Status, _, _>(nothing, "an order"),
        );
        document.add(needs, "/pairs/{pair}/x/{id}", &removes::<Status, _, _>(nothing, "its end"));
        let document: Value = serde_json::from_str(&document.finish("1.2.3")).unwrap();
        let both = &document["paths"]["/api/v1/pairs/{pair}/x/{id}"];
        assert_eq!(both["post"]["security"], json!([]));
        assert_eq!(both["delete"]["parameters"][1]["schema"]["type"], "integer");
        assert!(both["post"]["requestBody"]["required"].as_bool().unwrap());
        let mut left = vec![&document];
        let mut references = 0;
        while let Some(value) = left.pop() {
            if let Some(to) = value.get("$ref").and_then(Value::as_str) {
                assert!(document.pointer(to.trim_start_matches('#')).is_some(), "{to} leads nowhere");
                references += 1;
            }
            left.extend(value.as_object().into_iter().flat_map(|fields| fields.values()));
            left.extend(value.as_array().into_iter().flatten());
        }
        assert!(references > 20);
    }

    #[test]
    fn a_query_is_a_list_of_parameters_none_of_which_is_null() {
        let mut generator = Document::new().generator;
        let parameters = in_query(shape::<IncidentFilter>, &mut generator);
        let by_name = |name: &str| parameters.iter().find(|p| p["name"] == name).unwrap();
        assert_eq!(by_name("limit")["schema"]["type"], "integer");
        assert_eq!(
            by_name("open")["description"],
            "Only those that are still open (true), or that have ended (false)."
        );
        assert_eq!(by_name("open")["schema"]["type"], "boolean");
        assert_eq!(by_name("pair")["schema"]["anyOf"].as_array().unwrap().len(), 1);
        assert!(in_query(shape::<()>, &mut generator).is_empty());
    }
}
