//! The use of CPython's API: planted errors, and code that is in order.

use super::{Checkout, fake, tarball};
use serde_json::json;
use std::fs;

/// One error of each kind. The line numbers are in the table below.
const BAD: &str = r#"#include <Python.h>

static PyObject *leaks(PyObject *self, PyObject *args)
{
    PyObject *list, *item;
    list = PyList_New(0);
    if (list == NULL)
        return NULL;
    item = PyLong_FromLong(42);
    if (item == NULL)
        return NULL;
    if (PyList_Append(list, item) < 0) {
        Py_DECREF(item);
        Py_DECREF(list);
        return NULL;
    }
    Py_DECREF(item);
    return list;
}

static PyObject *unchecked(PyObject *self, PyObject *args)
{
    PyObject *tuple = PyTuple_New(1);
    PyTuple_SET_ITEM(tuple, 0, PyLong_FromLong(1));
    return tuple;
}

static PyObject *format(PyObject *self, PyObject *args)
{
    long number;
    const char *name;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "is#:format", &number, &name, &size))
        return NULL;
    return PyLong_FromLong(number);
}

static PyObject *few(PyObject *self, PyObject *args)
{
    int a;
    if (!PyArg_ParseTuple(args, "i|i", &a))
        return NULL;
    return PyLong_FromLong(a);
}

static PyObject *borrowed(PyObject *self, PyObject *args)
{
    PyObject *list, *first;
    if (!PyArg_ParseTuple(args, "O!", &PyList_Type, &list))
        return NULL;
    first = PyList_GetItem(list, 0);
    if (first == NULL)
        return NULL;
    return first;
}

static PyObject *freed(PyObject *self, PyObject *list)
{
    PyObject *first = PyList_GetItem(list, 0);
    if (first == NULL)
        return NULL;
    Py_DECREF(first);
    Py_RETURN_NONE;
}

static PyObject *direct(PyObject *self, PyObject *dict)
{
    return PyDict_GetItemString(dict, "x");
}
"#;

/// The same in order, with what resembles an error: a loop that tests what it assigns, references that are stolen,
/// stored, returned or given away, and exits by one label.
const GOOD: &str = r#"#include <Python.h>

typedef struct { PyObject_HEAD PyObject *kept; } Keeper;

#define PUT(list, at) PyList_SET_ITEM(list, at, text)

static PyObject *
pairs(PyObject *self, PyObject *args, PyObject *words)
{
    static char *names[] = {"items", "flag", "count", NULL};
    PyObject *items, *iter = NULL, *item, *list = NULL, *text;
    int flag = 0;
    Py_ssize_t count = 0;
    if (!PyArg_ParseTupleAndKeywords(args, words, "O|p$n:pairs", names, &items, &flag, &count))
        return NULL;
    if ((iter = PyObject_GetIter(items)) == NULL)
        goto error;
    list = PyList_New(1);
    if (!list)
        goto error;
    text = PyUnicode_FromString("first");
    if (text == NULL)
        goto error;
    PUT(list, 0);
    while ((item = PyIter_Next(iter))) {
        if (PyList_Append(list, item) < 0) {
            Py_DECREF(item);
            goto error;
        }
        Py_DECREF(item);
    }
    Py_DECREF(iter);
    return list;
error:
    Py_XDECREF(iter);
    Py_XDECREF(list);
    return NULL;
}

static PyObject *
first(Keeper *self, PyObject *list)
{
    PyObject *item = PyList_GetItem(list, 0);
    if (item == NULL)
        return NULL;
    Py_INCREF(item);
    return item;
}

static int
keep(Keeper *self, PyObject *args)
{
    PyObject *made = PyDict_New();
    if (made == NULL)
        return -1;
    self->kept = made;
    return 0;
}
"#;

#[test]
fn every_planted_error_is_found_with_its_line_and_nothing_else() {
    let checkout = Checkout::new("python-c-api", json!({"nvr": "hello-1.0-1"}));
    fs::write(
        checkout.fetched().join("hello-1.0.tar.gz"),
        tarball(&[("bad.c", BAD), ("good.c", GOOD), ("plain.c", "int none;\n")]),
    )
    .unwrap();
    let ran = checkout.run();
    let (outcome, shown) = ran.shown();
    assert_eq!(outcome, "failed", "{}", ran.log);
    insta::assert_snapshot!(shown, @r#"
    failed coccinelle (2 of 2 files analysed, 7 findings)
      failed src/bad.c
        failed leaked-reference (`list`, owned since PyList_New in line 6, is not given back before this return) column=9 file=src/bad.c line=11 rule=leaked-reference
        failed unchecked-null (PyTuple_SET_ITEM gets `tuple`, which PyTuple_New in line 23 leaves NULL when it fails) column=5 file=src/bad.c line=24 rule=unchecked-null
        failed format-type (PyArg_ParseTuple: the format "is#:format" needs int at `number`, which is long) column=10 file=src/bad.c line=33 rule=format-type
        failed format-count (PyArg_ParseTuple: the format "i|i" fills in 2 variables, 1 are given) column=10 file=src/bad.c line=41 rule=format-count
        failed borrowed-returned (`first`, borrowed by PyList_GetItem in line 51, is returned without Py_INCREF) column=5 file=src/bad.c line=54 rule=borrowed-returned
        failed borrowed-released (`first` is only borrowed, by PyList_GetItem in line 59: giving it back frees what others hold) column=5 file=src/bad.c line=62 rule=borrowed-released
        failed borrowed-returned.2 (what PyDict_GetItemString gives is borrowed; it is returned without Py_INCREF) column=5 file=src/bad.c line=68 rule=borrowed-returned
    "#);
}

#[test]
fn sources_without_a_verdict_never_pass() {
    let run = |files: &[(&str, &str)], fakes: &[(&str, &str)]| {
        let mut checkout = Checkout::new("python-c-api", json!({"nvr": "hello-1.0-1"}));
        fs::write(checkout.fetched().join("hello-1.0.tar.gz"), tarball(files)).unwrap();
        fakes.iter().for_each(|(program, script)| fake(&mut checkout, program, script));
        checkout.run().shown()
    };
    let check = |files: &[(&str, &str)], fakes: &[(&str, &str)], outcome: &str, expect: &str| {
        let (found, shown) = run(files, fakes);
        assert_eq!(found, outcome, "{shown}");
        assert!(shown.contains(expect), "no {expect:?} in\n{shown}");
    };
    let good = &[("good.c", GOOD)];
    check(good, &[], "passed", "passed coccinelle (1 of 1 files analysed, 0 findings)");
    check(
        good,
        &[("spatch", "kill -SEGV $$")],
        "error(task)",
        "error(task) src/good.c (spatch: ended with -11)",
    );
    check(
        good,
        &[("spatch", "echo 'Fatal error: out of memory'; exit 2")],
        "error(task)",
        "spatch: Fatal error",
    );
    check(good, &[("spatch", "exit 0")], "error(task)", "does not say how much of the file it could read");
    let odd = &[("odd.c", "#include <Python.h>\nint f( { ] PyList_New(\n")];
    check(
        odd,
        &[],
        "error(task)",
        "error(task) sources (none of 1 C files could be analysed: no verdict on the package)",
    );
    let generated = format!("/* Generated by Cython 3.0 */\n{BAD}");
    check(&[("made.c", &generated)], &[], "error(task)", "skipped src/made.c (generated by Cython)");
    check(
        &[("plain.c", "int none;\n")],
        &[],
        "not_applicable",
        "there is no C source that uses CPython's API",
    );
}
