//! What a request may ask by: parameters that its route does not know, and fields that no entry of a list has, are
//! refused with what there is. A mistyped filter would otherwise list everything.

mod shape;

use crate::{problem::Problem, routes::list_of};
use axum::{
    extract::{MatchedPath, Request, State},
    http::Method,
    middleware::Next,
    response::Response,
};
use model::{diagnostic::nearest, outcome::OUTCOMES};
use scheduler::Filter;
use serde::{
    Deserialize, Deserializer,
    de::{Visitor, value::Error},
    forward_to_deserialize_any,
};
use std::{collections::HashMap, sync::Arc};
use utoipa::openapi::{
    OpenApi, RefOr,
    path::{Parameter, ParameterIn},
};

/// The native interface; other systems ignored what they did not know, and their clients may rely on it.
const NATIVE: &str = "/api/v1/";
/// Workers of another version may know more; theirs is a protocol with a version.
const WORKERS: &str = "/api/v1/worker/";

/// The parameters of each native route, by its path and method.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parameters(Arc<HashMap<(String, Method), Vec<String>>>);

impl Parameters {
    /// Those that the description tells of.
    pub(crate) fn of(openapi: &OpenApi) -> Self {
        let mut known = HashMap::new();
        for (path, item) in &openapi.paths.paths {
            if !path.starts_with(NATIVE) || path.starts_with(WORKERS) {
                continue;
            }
            let operations = [
                (Method::GET, &item.get),
                (Method::POST, &item.post),
                (Method::PUT, &item.put),
                (Method::DELETE, &item.delete),
            ];
            for (method, operation) in operations {
                let Some(operation) = operation else { continue };
                let name = |parameter: &RefOr<Parameter>| match parameter {
                    RefOr::T(one) if one.parameter_in == ParameterIn::Query => Some(one.name.clone()),
                    _ => None,
                };
                let names = operation.parameters.iter().flatten().filter_map(name).collect();
                known.insert((path.clone(), method), names);
            }
        }
        Self(Arc::new(known))
    }

    fn check(&self, request: &Request) -> Result<(), Problem> {
        let Some(query) = request.uri().query().filter(|query| !query.is_empty()) else { return Ok(()) };
        let Some(path) = request.extensions().get::<MatchedPath>() else { return Ok(()) };
        let Some(known) = self.0.get(&(path.as_str().to_owned(), request.method().clone())) else {
            return Ok(());
        };
        for (name, _) in form_urlencoded::parse(query.as_bytes()) {
            if !known.iter().any(|one| *one == name) {
                let names = known.iter().map(String::as_str);
                return Err(Problem::bad(unknown("parameter", &name, names)));
            }
        }
        Ok(())
    }
}

/// Refuses requests with parameters that their route does not know.
pub(crate) async fn refuse_unknown(
    State(parameters): State<Parameters>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    parameters.check(&request)?;
    Ok(next.run(request).await)
}

/// Refuses a filter that asks for a field which no `T` has.
pub(crate) fn check_fields<T>(filter: &Filter) -> Result<(), Problem>
where
    T: for<'de> Deserialize<'de>,
{
    let Some(own) = fields_of::<T>() else { return Ok(()) };
    check_roots(filter, own.iter().copied())?;
    let whole = shape::of::<T>();
    filter.paths().try_for_each(|path| match shape::missing(whole, path.parts()) {
        None => Ok(()),
        Some(missing) => {
            let known = missing.known.iter().map(String::as_str);
            Err(Problem::bad(format!("where: {path}: {}", unknown("field", missing.name, known))))
        }
    })
}

/// Refuses a filter whose paths start with anything but these.
pub(crate) fn check_roots<'a>(
    filter: &Filter,
    known: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), Problem> {
    match filter.roots().find(|root| !known.clone().any(|one| one == *root)) {
        None => Ok(()),
        Some(root) => Err(Problem::bad(format!("where: {}", unknown("field", root, known)))),
    }
}

/// The parts of a comma-separated parameter, each of which must be one of these.
pub(crate) fn list_of_known(
    name: &str,
    text: Option<&String>,
    known: &[&str],
) -> Result<Vec<String>, Problem> {
    let parts = list_of(text);
    match parts.iter().find(|part| !known.contains(&part.as_str())) {
        None => Ok(parts),
        Some(part) => Err(Problem::bad(unknown(name, part, known.iter().copied()))),
    }
}

/// As [`list_of_known`], of outcomes: with their reasons or without.
pub(crate) fn outcomes(text: Option<&String>) -> Result<Vec<String>, Problem> {
    let mut known: Vec<&str> = Vec::new();
    for word in OUTCOMES.iter().flat_map(|(outcome, text)| [outcome.class(), text]) {
        if !known.contains(&word) {
            known.push(word);
        }
    }
    list_of_known("outcome", text, &known)
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let near = nearest(name, known.clone()).map(|near| format!(" (did you mean `{near}`?)"));
    let known: Vec<_> = known.collect();
    let known = if known.is_empty() {
        format!("there is no {what} here")
    } else {
        format!("expected one of {}", known.join(", "))
    };
    format!("there is no {what} `{name}`{}; {known}", near.unwrap_or_default())
}

/// The fields of a struct as serde knows them; none where fields of another are mixed with its own.
pub(crate) fn fields_of<T>() -> Option<&'static [&'static str]>
where
    T: for<'de> Deserialize<'de>,
{
    let mut fields = None;
    // Reading fails as soon as the fields are known: there is nothing to read.
    let _ = T::deserialize(Fields(&mut fields));
    fields
}

/// Asks a type what it would read.
struct Fields<'a>(&'a mut Option<&'static [&'static str]>);

impl<'de> Deserializer<'de> for Fields<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(serde::de::Error::custom("nothing is read"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0 = Some(fields);
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Task;

    #[test]
    fn fields() {
        #[derive(Deserialize)]
        struct Mixed {
            #[serde(flatten)]
            _more: HashMap<String, String>,
        }
        assert!(fields_of::<Task>().unwrap().contains(&"state"));
        assert_eq!(fields_of::<Mixed>(), None);
        let check = |text: &str| check_fields::<Task>(&Filter::parse(text).unwrap());
        assert!(check("state.state=queued item.id=x").is_ok());
        let problem = check("origin.ruel=a").unwrap_err();
        assert!(
            problem.detail.starts_with("where: origin.ruel: there is no field `ruel` (did you mean `rule`?)"),
            "{}",
            problem.detail
        );
        let problem = check("name=a stat.state=queued").unwrap_err();
        assert!(
            problem
                .detail
                .starts_with("where: there is no field `stat` (did you mean `state`?); expected one of"),
            "{}",
            problem.detail
        );
    }
}
