//! The cells of a matrix. `include` and `exclude` mean what they mean in GitHub Actions.

use super::{CELLS_MAX, mistake_of, values};
use crate::{
    language::{Matrix, Values},
    predicate::equal,
    script::{Engine, Scope},
    source::{Place, RuleError},
};
use model::event::json_kind;
use serde_json::{Map, Value};

type Cell = Map<String, Value>;

/// The cells; one empty cell without a matrix.
pub(super) fn cells(
    matrix: &Matrix,
    place: &Place,
    engine: &Engine,
    scope: &Scope<'_>,
) -> Result<Vec<Cell>, RuleError> {
    let mut cells = product(matrix, place, engine, scope)?;
    for excluded in objects(matrix.exclude.as_ref(), engine, scope)? {
        cells.retain(|cell| {
            !excluded.iter().all(|(name, value)| cell.get(name).is_some_and(|own| same(own, value)))
        });
    }
    include(&mut cells, objects(matrix.include.as_ref(), engine, scope)?, &names(matrix));
    if cells.len() > CELLS_MAX {
        return Err(too_many(place));
    }
    Ok(cells)
}

fn too_many(place: &Place) -> RuleError {
    let message = format!("the matrix has more than {CELLS_MAX} cells");
    RuleError { message, place: place.clone() }
}

fn names(matrix: &Matrix) -> Vec<&str> {
    matrix.axes.iter().map(|axis| axis.name.as_str()).collect()
}

/// Each value of each axis with each of the others.
fn product(
    matrix: &Matrix,
    place: &Place,
    engine: &Engine,
    scope: &Scope<'_>,
) -> Result<Vec<Cell>, RuleError> {
    // Cells that are only included stand for themselves.
    let alone = matrix.axes.is_empty() && matrix.include.is_some();
    let mut cells = if alone { Vec::new() } else { vec![Cell::new()] };
    for axis in &matrix.axes {
        let values = values(&axis.values, engine, scope)?;
        if cells.len().saturating_mul(values.len()) > CELLS_MAX {
            return Err(too_many(place));
        }
        let with_axis = |cell: &Cell, value: &Value| {
            let mut cell = cell.clone();
            cell.insert(axis.name.clone(), value.clone());
            cell
        };
        cells =
            cells.iter().flat_map(|cell| values.iter().map(move |value| with_axis(cell, value))).collect();
    }
    Ok(cells)
}

/// An object goes into each cell whose axes it does not contradict, and over what others added; one that goes
/// into none is a cell of its own.
fn include(cells: &mut Vec<Cell>, objects: Vec<Cell>, axes: &[&str]) {
    let originals = cells.len();
    for object in objects {
        let agrees = |cell: &Cell| {
            object.iter().all(|(name, value)| {
                !axes.contains(&name.as_str()) || cell.get(name).is_some_and(|own| same(own, value))
            })
        };
        let mut found = false;
        for cell in cells.iter_mut().take(originals).filter(|cell| agrees(cell)) {
            cell.extend(object.clone());
            found = true;
        }
        if !found {
            cells.push(object);
        }
    }
}

fn same(a: &Value, b: &Value) -> bool {
    equal(a, b).unwrap_or_else(|| a == b)
}

fn objects(given: Option<&Values>, engine: &Engine, scope: &Scope<'_>) -> Result<Vec<Cell>, RuleError> {
    let Some(given) = given else { return Ok(Vec::new()) };
    let object = |value| match value {
        Value::Object(fields) => Ok(fields),
        other => {
            let kind = json_kind(&other);
            Err(mistake_of(given, format!("the expression must give a list of objects, one is {kind}")))
        }
    };
    values(given, engine, scope)?.into_iter().map(object).collect()
}
