/* How Coccinelle is to read macros of CPython that change the flow or are no C by themselves. */
#define PyObject_HEAD PyObject ob_base;
#define PyObject_VAR_HEAD PyVarObject ob_base;
#define PyMODINIT_FUNC PyObject *
#define PyDoc_STRVAR(name, text) static const char name[] = text
#define PyDoc_VAR(name) static const char name[]
#define PyDoc_STR(text) text
#define Py_BEGIN_ALLOW_THREADS
#define Py_END_ALLOW_THREADS
#define Py_BLOCK_THREADS
#define Py_UNBLOCK_THREADS
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#define Py_RETURN_NONE return Py_None
#define Py_RETURN_TRUE return Py_True
#define Py_RETURN_FALSE return Py_False
#define Py_RETURN_NOTIMPLEMENTED return Py_NotImplemented
#define PyModuleDef_HEAD_INIT 0
#define PyVarObject_HEAD_INIT(type, size) 0, 
#define PyObject_HEAD_INIT(type) 0,
#define Py_UNUSED(name) name
#define Py_LOCAL(type) static type
#define Py_LOCAL_INLINE(type) static inline type
#define PyAPI_FUNC(type) type
#define PyAPI_DATA(type) extern type
#define Py_ALWAYS_INLINE
