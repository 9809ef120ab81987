// How CPython's API is used wrongly. Each rule prints what it found as a line of JSON, which run.py reads.
// OWNED, BORROWED, NEED_OBJECT, STEALING and LOOKING stand for the functions that functions.py lists.

@initialize:python@
@@
import json

def place(p):
    return {"file": p.file, "line": int(p.line), "column": int(p.column) + 1}

def tell(rule, p, x, note):
    print(json.dumps({"rule": rule, "variable": str(x), "note": note, **place(p)}))

def call(f, p, form, n):
    print(json.dumps({"call": str(f), "format": str(form), "count": int(n), **place(p)}))

def argument(p, k, kind, x):
    print(json.dumps({"argument": int(k), "type": str(kind), "name": str(x), **place(p)}))

// An owned reference that is used where NULL does harm, without having been compared with NULL.

@condition@
identifier make =~ "^(OWNED)$";
expression x;
statement S;
position c;
@@
\(while (<+... x = make@c(...) ...+>) S\|if (<+... x = make@c(...) ...+>) S\)

@unchecked exists@
identifier make =~ "^(OWNED)$";
identifier use =~ "^(NEED_OBJECT)$";
local idexpression x;
expression e;
position p != condition.c;
position q;
@@
x = make@p(...)
... when != x == NULL
    when != x != NULL
    when != x = e
    when != &x
use@q(x, ...)

@script:python@
p << unchecked.p;
q << unchecked.q;
x << unchecked.x;
make << unchecked.make;
use << unchecked.use;
@@
tell("unchecked-null", q[0], x, f"{use} gets `{x}`, which {make} in line {p[0].line} leaves NULL when it fails")

// An owned reference that is not given back on a way out. What was returned, stored, or given to a function that may
// keep it is no longer ours.

@leak exists@
typedef PyObject;
identifier make =~ "^(OWNED)$";
identifier other !~ "^(LOOKING)$";
identifier steal =~ "^(STEALING)$";
local idexpression x;
expression e, e1, e2;
expression list es, fs;
statement S;
position p, r;
@@
(
x = make@p(...);
... when != x
    when != return ...;
if (x == NULL) S
|
if ((x = make@p(...)) == NULL) S
)
... when != other(es, x, fs)
    when != other(es, (PyObject *)x, fs)
    when != steal(e1, e2, x)
    when != e = x
    when != e = (PyObject *)x
    when != x = e
    when != &x
    when != x == NULL
    when != x != NULL
(
return <+... x ...+>;
|
return@r ...;
)

@script:python@
p << leak.p;
r << leak.r;
x << leak.x;
make << leak.make;
@@
tell("leaked-reference", r[0], x, f"`{x}`, owned since {make} in line {p[0].line}, is not given back before this return")

// A borrowed reference that is returned as if it were owned.

@returned exists@
identifier peek =~ "^(BORROWED)$";
local idexpression x;
expression e;
position p, r;
@@
x = peek@p(...)
... when != Py_INCREF(x)
    when != Py_XINCREF(x)
    when != Py_NewRef(x)
    when != Py_XNewRef(x)
    when != x = e
    when != &x
return@r x;

@script:python@
p << returned.p;
r << returned.r;
x << returned.x;
peek << returned.peek;
@@
tell("borrowed-returned", r[0], x, f"`{x}`, borrowed by {peek} in line {p[0].line}, is returned without Py_INCREF")

// The same at once, in functions that look like methods.

@direct exists@
typedef PyObject;
identifier peek =~ "^(BORROWED)$";
identifier f, self, args;
type T;
position r;
@@
PyObject *f(T self, PyObject *args, ...)
{
  ...
  return@r peek(...);
}

@script:python@
r << direct.r;
peek << direct.peek;
@@
tell("borrowed-returned", r[0], "", f"what {peek} gives is borrowed; it is returned without Py_INCREF")

// A borrowed reference that is given back.

@released exists@
identifier peek =~ "^(BORROWED)$";
local idexpression x;
expression e;
position p, r;
@@
x = peek@p(...)
... when != Py_INCREF(x)
    when != Py_XINCREF(x)
    when != Py_NewRef(x)
    when != x = e
    when != e = x
    when != &x
\(Py_DECREF@r\|Py_XDECREF@r\|Py_CLEAR@r\)(x)

@script:python@
p << released.p;
r << released.r;
x << released.x;
peek << released.peek;
@@
tell("borrowed-released", r[0], x, f"`{x}` is only borrowed, by {peek} in line {p[0].line}: giving it back frees what others hold")

// Formats of arguments: which, with how many variables, of which types; run.py compares them.

@parse@
identifier f =~ "^(PyArg_ParseTuple|PyArg_Parse)$";
expression tuple, form;
expression list[n] es;
position p;
@@
f@p(tuple, form, es)

@script:python@
f << parse.f;
form << parse.form;
n << parse.n;
p << parse.p;
@@
call(f, p[0], form, n)

@keywords@
identifier f =~ "^PyArg_ParseTupleAndKeywords$";
expression tuple, words, form, names;
expression list[n] es;
position p;
@@
f@p(tuple, words, form, names, es)

@script:python@
f << keywords.f;
form << keywords.form;
n << keywords.n;
p << keywords.p;
@@
call(f, p[0], form, n)

@typed@
identifier f =~ "^(PyArg_ParseTuple|PyArg_Parse)$";
expression tuple, form;
expression list[k] before;
expression list after;
type T;
T x;
position p;
@@
f@p(tuple, form, before, &x, after)

@script:python@
p << typed.p;
k << typed.k;
T << typed.T;
x << typed.x;
@@
argument(p[0], k, T, x)

@typed_keywords@
identifier f =~ "^PyArg_ParseTupleAndKeywords$";
expression tuple, words, form, names;
expression list[k] before;
expression list after;
type T;
T x;
position p;
@@
f@p(tuple, words, form, names, before, &x, after)

@script:python@
p << typed_keywords.p;
k << typed_keywords.k;
T << typed_keywords.T;
x << typed_keywords.x;
@@
argument(p[0], k, T, x)
