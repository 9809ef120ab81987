"""Formats of PyArg_ParseTuple and its kin: which variables they fill in, and whether those are there and fit."""

import re

CLOSERS, MODIFIERS = ":;", "|$()"
TEXT, OBJECT, ANY = "text", "object", "any"

# What a unit takes, longest first: C types by their size and kind, ANY for what is not compared.
UNITS = {
    "es#": [ANY, TEXT, "Py_ssize_t"], "et#": [ANY, TEXT, "Py_ssize_t"], "es": [ANY, TEXT], "et": [ANY, TEXT],
    "s#": [TEXT, "Py_ssize_t"], "z#": [TEXT, "Py_ssize_t"], "y#": [TEXT, "Py_ssize_t"],
    "s*": ["Py_buffer"], "z*": ["Py_buffer"], "y*": ["Py_buffer"], "w*": ["Py_buffer"],
    "s": [TEXT], "z": [TEXT], "y": [TEXT],
    "O!": [ANY, OBJECT], "O&": [ANY, ANY], "O": [OBJECT], "S": [OBJECT], "Y": [OBJECT], "U": [OBJECT],
    "b": ["char"], "B": ["char"], "c": ["char"], "h": ["short"], "H": ["short"], "i": ["int"], "I": ["int"],
    "C": ["int"], "p": ["int"], "l": ["long"], "k": ["long"], "n": ["Py_ssize_t"], "L": ["long long"],
    "K": ["long long"], "f": ["float"], "d": ["double"], "D": ["Py_complex"], "u": [ANY], "Z": [ANY],
}
LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"')
# Signs do no harm, and `long` is Py_ssize_t wherever Linux runs.
SAME = {"unsigned": "int", "bool": "_Bool", "size_t": "Py_ssize_t", "ssize_t": "Py_ssize_t"}
KNOWN = {"char", "short", "int", "long", "Py_ssize_t", "long long", "float", "double", "Py_complex", "Py_buffer", "_Bool"}


class Unknown(Exception):
    """The format is built at run time, or has a unit that is not known here."""


def text_of(expression):
    """The text of a literal, or of several beside each other."""
    if LITERAL.sub("", expression).strip():
        raise Unknown(expression)
    return "".join(LITERAL.findall(expression))


def wanted(form):
    """What each variable behind the format must be."""
    types, at = [], 0
    while at < len(form) and form[at] not in CLOSERS:
        if form[at] in MODIFIERS or form[at] == " ":
            at += 1
            continue
        unit = next((form[at:at + size] for size in (3, 2, 1) if form[at:at + size] in UNITS), None)
        if unit is None:
            raise Unknown(form)
        types += UNITS[unit]
        at += len(unit)
    return types


def kind(declared):
    """A declared type as `wanted` says it; None for one whose size is not known here."""
    words = [word for word in declared.replace("*", " * ").split() if word not in ("const", "volatile", "static")]
    if words.count("*") > 1:
        return None
    if words and words[-1] == "*":
        base = " ".join(word for word in words[:-1] if word not in ("unsigned", "signed"))
        return TEXT if base in ("char", "void") else OBJECT
    plain = [word for word in words if word not in ("unsigned", "signed", "int")]
    base = " ".join(plain) or "int"
    base = SAME.get(base, base)
    return base if base in KNOWN else None


def fits(want, have):
    if want == ANY or have is None or want == have:
        return True
    # A structure of the module's own is an object, too.
    return {want, have} == {"long", "Py_ssize_t"}


def check(call, arguments):
    """What is wrong with one call: [(rule, text)]. `arguments` gives (type, name) by position where known."""
    try:
        form = text_of(call["format"])
        types = wanted(form)
    except Unknown:
        return []
    if len(types) != call["count"]:
        return [("format-count", f"{call['call']}: the format \"{form}\" fills in {len(types)} variables, {call['count']} are given")]
    wrong = []
    for at, want in enumerate(types):
        declared, name = arguments.get(at, (None, None))
        if declared is not None and not fits(want, kind(declared)):
            expected = {TEXT: "char *", OBJECT: "PyObject *"}.get(want, want)
            wrong.append(("format-type", f"{call['call']}: the format \"{form}\" needs {expected} at `{name}`, which is {declared}"))
    return wrong
