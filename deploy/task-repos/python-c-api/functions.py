"""CPython's functions by what they do with references: parts of regular expressions, for the rules in api.cocci."""

# They give a new reference, or NULL when they fail.
OWNED = """
    PyList_New PyTuple_New PyDict_New PySet_New PyFrozenSet_New Py_BuildValue PyTuple_Pack
    PyBytes_From[A-Za-z]+ PyByteArray_From[A-Za-z]+ PyUnicode_From[A-Za-z]+ PyUnicode_Decode[A-Za-z0-9]*
    PyUnicode_As[A-Za-z0-9]+String PyLong_From[A-Za-z_]+ PyFloat_From[A-Za-z]+ PyComplex_From[A-Za-z]+
    PyImport_ImportModule PyImport_Import PyObject_Call[A-Za-z]* PyObject_Vectorcall PyObject_GetAttr
    PyObject_GetAttrString PyObject_GetItem PyObject_GetIter PyObject_Str PyObject_Repr PyObject_Bytes PyObject_Dir
    PyNumber_(Add|Subtract|Multiply|TrueDivide|FloorDivide|Remainder|Power|Negative|Absolute|And|Or|Xor|Long|Float|Index)
    PySequence_GetItem PySequence_GetSlice PySequence_List PySequence_Tuple PySequence_Fast PySequence_Concat PyIter_Next
    PyMapping_Keys PyMapping_Values PyMapping_Items PyDict_Keys PyDict_Values PyDict_Items PyDict_Copy
    PyList_AsTuple PyList_GetSlice PyTuple_GetSlice PyErr_NewException PyCapsule_New PyMemoryView_From[A-Za-z]+
    PyModule_Create PyModule_New PyStructSequence_New
"""

# They give a reference that stays somebody else's.
BORROWED = """
    PyList_GetItem PyList_GET_ITEM PyTuple_GetItem PyTuple_GET_ITEM PyDict_GetItem PyDict_GetItemString
    PyDict_GetItemWithError PyImport_AddModule PyModule_GetDict PySys_GetObject PyEval_GetBuiltins PyEval_GetLocals
    PyEval_GetGlobals PyWeakref_GetObject PyWeakref_GET_OBJECT PyStructSequence_GetItem PySequence_Fast_GET_ITEM
"""

# Their first argument must not be NULL: they would crash, or raise SystemError in place of what went wrong.
NEED_OBJECT = """
    PyList_SetItem PyList_SET_ITEM PyList_Append PyList_Insert PyList_Size PyList_GET_SIZE PyList_GetItem PyList_GET_ITEM
    PyList_Sort PyList_AsTuple PyTuple_SetItem PyTuple_SET_ITEM PyTuple_GetItem PyTuple_GET_ITEM PyTuple_GET_SIZE
    PyDict_SetItem PyDict_SetItemString PyDict_Update PyDict_GetItem PyDict_GetItemString PySet_Add
    PyBytes_AS_STRING PyBytes_AsString PyBytes_GET_SIZE PyByteArray_AS_STRING PyUnicode_AsUTF8 PyLong_AsLong
    PyFloat_AS_DOUBLE PyObject_CallMethod PyObject_GetAttrString PyObject_SetAttrString PyObject_SetAttr
    PyModule_AddObject PyModule_AddIntConstant PyModule_AddStringConstant Py_DECREF Py_INCREF
"""

# They take over the reference that is their last argument, also when they fail.
STEALING = "PyList_SetItem PyList_SET_ITEM PyTuple_SetItem PyTuple_SET_ITEM PyStructSequence_SetItem PyStructSequence_SET_ITEM"

# They only look at an argument, or take a reference of their own. Any other function may keep what it is given.
LOOKING = """
    PyList_[A-Z][A-Za-z_]+ PyTuple_[A-Z][A-Za-z_]+ PyDict_[A-Z][A-Za-z]+ PySet_[A-Z][A-Za-z]+ PySequence_[A-Z][A-Za-z]+
    PyMapping_[A-Z][A-Za-z]+ PyObject_[A-Z][A-Za-z]+ PyNumber_[A-Z][A-Za-z]+ PyStructSequence_[A-Z][A-Za-z_]+
    PyLong_As[A-Za-z]+ PyFloat_As[A-Za-z]+ PyFloat_AS_DOUBLE PyBytes_As[A-Za-z]+ PyBytes_AS_STRING PyBytes_GET_SIZE
    PyBytes_Size PyByteArray_AS_STRING PyUnicode_[A-Z][A-Za-z0-9_]+ Py[A-Za-z]+_Check Py[A-Za-z]+_CheckExact
    PyErr_[A-Z][A-Za-z]+ PyIter_Next PyModule_Add(IntConstant|StringConstant|ObjectRef|Type)
    Py_SIZE Py_TYPE Py_INCREF Py_XINCREF Py_NewRef
"""


def pattern(names):
    return "|".join(names.split())
