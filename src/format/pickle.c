/* SPDX-License-Identifier: Apache-2.0 */
/* pickle.c: the stack machine of Python's pickle (Lib/pickletools.py of CPython 3.13 describes it),
 * without the opcodes that could make more than containers.
 *
 * One table by opcode: its name, and the function that runs it or NULL where it is refused. A value
 * on the stack below the last mark cannot be reached, as in CPython. */
#include "format/pickle.h"

#include <stdio.h>

typedef unsigned long long ull;

#define NAME_MAX_BYTES 255 /* of a module or a name of GLOBAL */

struct lb_pickle {
    lb_cur *c;
    const lb_pickle_ops *ops;
    lb_arena *perm;
    lb_pv **stack;
    u64 *marks; /* heights of the stack */
    lb_pv **memo;
    u64 n_stack, cap_stack, n_marks, cap_marks, n_memo, cap_memo;
    u64 begin, end; /* of the text: at most LB_PICKLE_MAX bytes */
    u64 at;         /* of the opcode that runs */
    u8 op;
    bool stopped;
    lb_pv *shared; /* None, False, True, (): made once */
    lb_err *err;
};

typedef lb_status(op_fn)(lb_pickle *p);
typedef struct op_row {
    const char *name;
    op_fn *run; /* NULL: refused */
} op_row;
static const op_row rows[256];

const char *lb_pv_kind_name(const lb_pv *v) {
    static const char *const names[] = {"None",    "a bool",       "an integer", "an integer",
                                        "a float", "a string",     "bytes",      "a tuple",
                                        "a list",  "a dictionary", "a name",     "an object"};
    return v->kind < LB_LEN(names) ? names[v->kind] : "nothing";
}

lb_status lb_pickle_fail(lb_pickle *p, lb_status code, const char *fmt, ...) {
    char text[LB_ERR_MSG_MAX];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    const char *name = rows[p->op].name;
    return lb_fail_at(p->err, code, p->at, "%s: pickle, byte %llu: %s%s%s", p->c->path, (ull)p->at,
                      name ? name : "", name ? " " : "", text);
}

lb_status lb_pickle_no_memory(lb_pickle *p) {
    return lb_fail_at(p->err, LB_E_NOMEM, p->at, "%s: out of memory for a pickle", p->c->path);
}

static lb_status bad(lb_pickle *p, const char *what) {
    return lb_pickle_fail(p, LB_E_FORMAT, "%s", what);
}

/* ---- bytes ---- */

static lb_status room(lb_pickle *p, u64 n) {
    if (n <= p->end - p->c->pos)
        return LB_OK;
    if (p->end == p->c->size_bytes || n > lb_cur_left(p->c))
        return lb_pickle_fail(p, LB_E_FORMAT,
                              "needs %llu bytes, %llu are left: the file is damaged "
                              "or incomplete",
                              (ull)n, (ull)(p->end - p->c->pos));
    return lb_pickle_fail(p, LB_E_LIMIT, "the pickle is longer than the limit of %llu bytes",
                          (ull)LB_PICKLE_MAX);
}

static lb_status number(lb_pickle *p, u32 n, u64 *out) {
    u8 b[8] = {0};
    LB_TRY(room(p, n));
    LB_TRY(lb_cur_bytes(p->c, b, n, "a pickle", p->err));
    *out = lb_load_u64(b);
    return LB_OK;
}

/* A line without its end, into a buffer of NAME_MAX_BYTES. */
static lb_status line(lb_pickle *p, char *buf, lb_str *out) {
    for (u32 n = 0; n <= NAME_MAX_BYTES; n++) {
        u64 c;
        LB_TRY(number(p, 1, &c));
        if (c == '\n') {
            *out = (lb_str){buf, n};
            return LB_OK;
        }
        if (n < NAME_MAX_BYTES)
            buf[n] = (char)c;
    }
    return bad(p, "a name of more than 255 bytes");
}

/* ---- stack ---- */

static bool grow(void *list, u64 n, u64 *cap, size_t size_bytes) {
    void **at = list;
    if (n < *cap)
        return true;
    u64 wider = *cap ? *cap * 2 : 64;
    void *mem = lb_realloc(*at, (size_t)wider * size_bytes);
    if (!mem)
        return false;
    *at = mem;
    *cap = wider;
    return true;
}

lb_pv *lb_pickle_new(lb_pickle *p, lb_pv_kind kind) {
    lb_pv *v = lb_arena_new(p->perm, lb_pv, 1);
    if (v)
        v->kind = (u8)kind;
    return v;
}

/* NULL: it could not be made. */
static lb_status push(lb_pickle *p, lb_pv *v) {
    if (!v || !grow(&p->stack, p->n_stack, &p->cap_stack, sizeof *p->stack))
        return lb_pickle_no_memory(p);
    p->stack[p->n_stack++] = v;
    return LB_OK;
}

/* Values above the last mark. */
static u64 height(const lb_pickle *p) {
    return p->n_stack - (p->n_marks ? p->marks[p->n_marks - 1] : 0);
}

static lb_status need(lb_pickle *p, u64 n) {
    return height(p) >= n ? LB_OK : bad(p, "finds too few values");
}

static lb_pv *top(const lb_pickle *p) {
    return p->stack[p->n_stack - 1];
}

/* What stands above the last mark; the mark is gone. */
static lb_status to_mark(lb_pickle *p, lb_pv ***items, u64 *n) {
    if (p->n_marks == 0)
        return bad(p, "finds no mark");
    *n = height(p);
    *items = p->stack + p->marks[--p->n_marks];
    p->n_stack -= *n;
    return LB_OK;
}

/* Room in a container: what is outgrown stays in the arena, together less than the last. */
static lb_status append(lb_pickle *p, lb_pv *v, lb_pv *const *items, u64 n) {
    u64 want = v->n + n;
    if (want > v->cap) {
        u64 cap = LB_MAX(want, (u64)v->cap * 2);
        lb_pv **wider = cap <= UINT32_MAX ? lb_arena_new(p->perm, lb_pv *, cap) : NULL;
        if (!wider)
            return lb_pickle_no_memory(p);
        if (v->n)
            memcpy(wider, v->u.items, v->n * sizeof *wider);
        v->u.items = wider;
        v->cap = (u32)cap;
    }
    if (n)
        memcpy(v->u.items + v->n, items, (size_t)n * sizeof *items);
    v->n = (u32)want;
    return LB_OK;
}

/* ---- scalars ---- */

static lb_status op_proto(lb_pickle *p) {
    u64 v;
    LB_TRY(number(p, 1, &v));
    if (p->at != p->begin)
        return bad(p, "stands inside the pickle");
    if (v < 2 || v > 5)
        return lb_pickle_fail(p, LB_E_UNSUPPORTED, "%llu: protocols 2 to 5 are read", (ull)v);
    return LB_OK;
}

static lb_status op_frame(lb_pickle *p) {
    u64 n;
    LB_TRY(number(p, 8, &n));
    return room(p, n);
}

static lb_status op_stop(lb_pickle *p) {
    if (p->n_stack != 1 || p->n_marks)
        return bad(p, "does not find one value");
    p->stopped = true;
    return LB_OK;
}

static lb_status op_none(lb_pickle *p) {
    return push(p, &p->shared[0]);
}

static lb_status op_bool(lb_pickle *p) {
    return push(p, &p->shared[p->op == 0x88 ? 2 : 1]);
}

static lb_status push_int(lb_pickle *p, i64 i) {
    lb_pv *v = lb_pickle_new(p, LB_PV_INT);
    if (v)
        v->u.i = i;
    return push(p, v);
}

static lb_status op_int(lb_pickle *p) {
    u64 v;
    u32 n = p->op == 'K' ? 1 : p->op == 'M' ? 2 : 4;
    LB_TRY(number(p, n, &v));
    return push_int(p, n == 4 ? (i64)(i32)(u32)v : (i64)v);
}

static lb_status op_long(lb_pickle *p) {
    u64 n;
    LB_TRY(number(p, p->op == 0x8a ? 1 : 4, &n));
    LB_TRY(room(p, n));
    if (n <= 8) {
        u64 v;
        LB_TRY(number(p, (u32)n, &v));
        if (n && n < 8 && v >> (8 * n - 1))
            v |= ~(u64)0 << (8 * n);
        return push_int(p, (i64)v);
    }
    lb_pv *v = lb_pickle_new(p, LB_PV_BIG);
    lb_str text;
    LB_TRY(lb_cur_str(p->c, n, p->perm, &text, "an integer", p->err));
    if (v) {
        v->u.text = text.ptr;
        v->n = (u32)n;
    }
    return push(p, v);
}

static lb_status op_float(lb_pickle *p) {
    u64 v, turned = 0;
    LB_TRY(number(p, 8, &v));
    for (u32 i = 0; i < 8; i++)
        turned = turned << 8 | ((v >> (8 * i)) & 0xff);
    lb_pv *f = lb_pickle_new(p, LB_PV_FLOAT);
    if (f)
        memcpy(&f->u.f, &turned, sizeof turned);
    return push(p, f);
}

static lb_status push_text(lb_pickle *p, lb_pv_kind kind, u32 n_len) {
    u64 n;
    lb_str text;
    LB_TRY(number(p, n_len, &n));
    LB_TRY(room(p, n));
    LB_TRY(lb_cur_str(p->c, n, p->perm, &text, "a string", p->err));
    lb_pv *v = lb_pickle_new(p, kind);
    if (v) {
        v->u.text = text.ptr;
        v->n = (u32)n;
    }
    return push(p, v);
}

static lb_status op_unicode(lb_pickle *p) {
    return push_text(p, LB_PV_STR, p->op == 0x8c ? 1 : p->op == 'X' ? 4 : 8);
}

static lb_status op_string(lb_pickle *p) {
    return push_text(p, LB_PV_STR, p->op == 'U' ? 1 : 4);
}

static lb_status op_bytes(lb_pickle *p) {
    return push_text(p, LB_PV_BYTES, p->op == 'C' ? 1 : p->op == 'B' ? 4 : 8);
}

/* ---- containers ---- */

static lb_status op_mark(lb_pickle *p) {
    if (!grow(&p->marks, p->n_marks, &p->cap_marks, sizeof *p->marks))
        return lb_pickle_no_memory(p);
    p->marks[p->n_marks++] = p->n_stack;
    return LB_OK;
}

static lb_status op_pop(lb_pickle *p) {
    if (height(p) == 0 && p->n_marks) {
        p->n_marks--;
        return LB_OK;
    }
    LB_TRY(need(p, 1));
    p->n_stack--;
    return LB_OK;
}

static lb_status op_pop_mark(lb_pickle *p) {
    lb_pv **items = NULL;
    u64 n = 0;
    return to_mark(p, &items, &n);
}

static lb_status op_dup(lb_pickle *p) {
    LB_TRY(need(p, 1));
    return push(p, top(p));
}

static lb_status op_empty(lb_pickle *p) {
    return push(p, p->op == ')' ? &p->shared[3]
                                : lb_pickle_new(p, p->op == '}' ? LB_PV_DICT : LB_PV_LIST));
}

static lb_status push_tuple(lb_pickle *p, lb_pv *const *items, u64 n) {
    lb_pv *v = n ? lb_pickle_new(p, LB_PV_TUPLE) : &p->shared[3];
    if (v && n)
        LB_TRY(append(p, v, items, n));
    return push(p, v);
}

static lb_status op_tuple(lb_pickle *p) {
    lb_pv **items = NULL;
    u64 n = 0;
    LB_TRY(to_mark(p, &items, &n));
    return push_tuple(p, items, n);
}

/* A set is a list: nothing is looked up in either. */
static lb_status op_frozenset(lb_pickle *p) {
    lb_pv **items = NULL;
    u64 n = 0;
    LB_TRY(to_mark(p, &items, &n));
    lb_pv *v = lb_pickle_new(p, LB_PV_LIST);
    if (v)
        LB_TRY(append(p, v, items, n));
    return push(p, v);
}

static lb_status op_short_tuple(lb_pickle *p) {
    u64 n = p->op - 0x84u;
    LB_TRY(need(p, n));
    p->n_stack -= n;
    return push_tuple(p, p->stack + p->n_stack, n);
}

static lb_status fill(lb_pickle *p, lb_pv_kind kind, lb_pv *const *items, u64 n) {
    LB_TRY(need(p, 1));
    if (top(p)->kind != kind)
        return lb_pickle_fail(p, LB_E_UNSUPPORTED, "into %s is refused", lb_pv_kind_name(top(p)));
    if (kind == LB_PV_DICT && n % 2)
        return bad(p, "finds a key without a value");
    return append(p, top(p), items, n);
}

static lb_status op_add(lb_pickle *p) {
    u64 n = p->op == 'a' ? 1 : 2;
    LB_TRY(need(p, n + 1));
    p->n_stack -= n;
    return fill(p, n == 1 ? LB_PV_LIST : LB_PV_DICT, p->stack + p->n_stack, n);
}

static lb_status op_add_many(lb_pickle *p) {
    lb_pv **items = NULL;
    u64 n = 0;
    LB_TRY(to_mark(p, &items, &n));
    return fill(p, p->op == 'u' ? LB_PV_DICT : LB_PV_LIST, items, n);
}

/* ---- memo ---- */

/* The n-th value that is put needs n opcodes before it: an index beyond is none that Python wrote,
 * and would ask for memory that the text does not back. */
static lb_status put(lb_pickle *p, u64 index) {
    LB_TRY(need(p, 1));
    if (index >= p->c->pos - p->begin)
        return lb_pickle_fail(p, LB_E_FORMAT, "%llu: an index beyond what was read", (ull)index);
    while (p->n_memo <= index) {
        if (!grow(&p->memo, p->n_memo, &p->cap_memo, sizeof *p->memo))
            return lb_pickle_no_memory(p);
        p->memo[p->n_memo++] = NULL;
    }
    p->memo[index] = top(p);
    return LB_OK;
}

static lb_status op_put(lb_pickle *p) {
    u64 i = p->n_memo;
    if (p->op != 0x94)
        LB_TRY(number(p, p->op == 'q' ? 1 : 4, &i));
    return put(p, i);
}

static lb_status op_get(lb_pickle *p) {
    u64 i;
    LB_TRY(number(p, p->op == 'h' ? 1 : 4, &i));
    if (i >= p->n_memo || !p->memo[i])
        return lb_pickle_fail(p, LB_E_FORMAT, "%llu: nothing was kept there", (ull)i);
    return push(p, p->memo[i]);
}

/* ---- names, calls ---- */

static lb_status push_name(lb_pickle *p, lb_str module, lb_str name) {
    u32 id;
    if (!p->ops->name(p->ops->ctx, module, name, &id))
        return lb_pickle_fail(p, LB_E_UNSUPPORTED,
                              "'%.*s.%.*s' is refused: only tensors and containers are read",
                              LB_FMT(lb_str_sub(module, 0, 100)), LB_FMT(lb_str_sub(name, 0, 100)));
    lb_pv *v = lb_pickle_new(p, LB_PV_NAME);
    if (v)
        v->id = id;
    return push(p, v);
}

static lb_status op_global(lb_pickle *p) {
    char buf[2][NAME_MAX_BYTES];
    lb_str module, name;
    LB_TRY(line(p, buf[0], &module));
    LB_TRY(line(p, buf[1], &name));
    return push_name(p, module, name);
}

static lb_status op_stack_global(lb_pickle *p) {
    LB_TRY(need(p, 2));
    p->n_stack -= 2;
    const lb_pv *module = p->stack[p->n_stack], *name = p->stack[p->n_stack + 1];
    if (module->kind != LB_PV_STR || name->kind != LB_PV_STR)
        return bad(p, "finds no two strings");
    return push_name(p, lb_pv_str(module), lb_pv_str(name));
}

static lb_status op_reduce(lb_pickle *p) {
    lb_pv *out = NULL;
    LB_TRY(need(p, 2));
    const lb_pv *args = p->stack[--p->n_stack], *callee = p->stack[--p->n_stack];
    if (callee->kind != LB_PV_NAME || args->kind != LB_PV_TUPLE)
        return lb_pickle_fail(p, LB_E_UNSUPPORTED, "of %s with %s is refused",
                              lb_pv_kind_name(callee), lb_pv_kind_name(args));
    LB_TRY(p->ops->call(p->ops->ctx, p, callee->id, args, &out));
    return push(p, out);
}

static lb_status op_persistent(lb_pickle *p) {
    lb_pv *out = NULL;
    LB_TRY(need(p, 1));
    LB_TRY(p->ops->persistent(p->ops->ctx, p, p->stack[--p->n_stack], &out));
    return push(p, out);
}

/* Attributes of an OrderedDict (_metadata of a state dict) mean nothing here. */
static lb_status op_build(lb_pickle *p) {
    LB_TRY(need(p, 2));
    const lb_pv *state = p->stack[--p->n_stack], *object = top(p);
    if (object->kind != LB_PV_DICT || !object->is_ordered || state->kind != LB_PV_DICT)
        return lb_pickle_fail(p, LB_E_UNSUPPORTED, "of %s from %s is refused",
                              lb_pv_kind_name(object), lb_pv_kind_name(state));
    return LB_OK;
}

static const op_row rows[256] = {
    ['('] = {"MARK", op_mark},
    [')'] = {"EMPTY_TUPLE", op_empty},
    ['.'] = {"STOP", op_stop},
    ['0'] = {"POP", op_pop},
    ['1'] = {"POP_MARK", op_pop_mark},
    ['2'] = {"DUP", op_dup},
    ['B'] = {"BINBYTES", op_bytes},
    ['C'] = {"SHORT_BINBYTES", op_bytes},
    ['F'] = {"FLOAT", NULL},
    ['G'] = {"BINFLOAT", op_float},
    ['I'] = {"INT", NULL},
    ['J'] = {"BININT", op_int},
    ['K'] = {"BININT1", op_int},
    ['L'] = {"LONG", NULL},
    ['M'] = {"BININT2", op_int},
    ['N'] = {"NONE", op_none},
    ['P'] = {"PERSID", NULL},
    ['Q'] = {"BINPERSID", op_persistent},
    ['R'] = {"REDUCE", op_reduce},
    ['S'] = {"STRING", NULL},
    ['T'] = {"BINSTRING", op_string},
    ['U'] = {"SHORT_BINSTRING", op_string},
    ['V'] = {"UNICODE", NULL},
    ['X'] = {"BINUNICODE", op_unicode},
    [']'] = {"EMPTY_LIST", op_empty},
    ['a'] = {"APPEND", op_add},
    ['b'] = {"BUILD", op_build},
    ['c'] = {"GLOBAL", op_global},
    ['d'] = {"DICT", NULL},
    ['e'] = {"APPENDS", op_add_many},
    ['g'] = {"GET", NULL},
    ['h'] = {"BINGET", op_get},
    ['i'] = {"INST", NULL},
    ['j'] = {"LONG_BINGET", op_get},
    ['l'] = {"LIST", NULL},
    ['o'] = {"OBJ", NULL},
    ['p'] = {"PUT", NULL},
    ['q'] = {"BINPUT", op_put},
    ['r'] = {"LONG_BINPUT", op_put},
    ['s'] = {"SETITEM", op_add},
    ['t'] = {"TUPLE", op_tuple},
    ['u'] = {"SETITEMS", op_add_many},
    ['}'] = {"EMPTY_DICT", op_empty},
    [0x80] = {"PROTO", op_proto},
    [0x81] = {"NEWOBJ", NULL},
    [0x82] = {"EXT1", NULL},
    [0x83] = {"EXT2", NULL},
    [0x84] = {"EXT4", NULL},
    [0x85] = {"TUPLE1", op_short_tuple},
    [0x86] = {"TUPLE2", op_short_tuple},
    [0x87] = {"TUPLE3", op_short_tuple},
    [0x88] = {"NEWTRUE", op_bool},
    [0x89] = {"NEWFALSE", op_bool},
    [0x8a] = {"LONG1", op_long},
    [0x8b] = {"LONG4", op_long},
    [0x8c] = {"SHORT_BINUNICODE", op_unicode},
    [0x8d] = {"BINUNICODE8", op_unicode},
    [0x8e] = {"BINBYTES8", op_bytes},
    [0x8f] = {"EMPTY_SET", op_empty},
    [0x90] = {"ADDITEMS", op_add_many},
    [0x91] = {"FROZENSET", op_frozenset},
    [0x92] = {"NEWOBJ_EX", NULL},
    [0x93] = {"STACK_GLOBAL", op_stack_global},
    [0x94] = {"MEMOIZE", op_put},
    [0x95] = {"FRAME", op_frame},
    [0x96] = {"BYTEARRAY8", op_bytes},
    [0x97] = {"NEXT_BUFFER", NULL},
    [0x98] = {"READONLY_BUFFER", NULL},
};

static lb_status step(lb_pickle *p) {
    u64 op;
    p->at = p->c->pos;
    p->op = 0xff; /* no opcode: the text ends where one was looked for */
    LB_TRY(number(p, 1, &op));
    p->op = (u8)op;
    const op_row *row = &rows[p->op];
    if (p->at == p->begin && op != 0x80)
        return lb_pickle_fail(p, LB_E_UNSUPPORTED, "comes first: protocols 2 to 5 are read");
    if (!row->name)
        return lb_pickle_fail(p, LB_E_FORMAT, "0x%02x is no opcode", (unsigned)op);
    if (!row->run)
        return lb_pickle_fail(p, LB_E_UNSUPPORTED,
                              "is refused: only tensors and containers are read");
    return row->run(p);
}

lb_status lb_pickle_run(lb_cur *c, const lb_pickle_ops *ops, lb_arena *perm, lb_pv **out,
                        lb_err *err) {
    lb_pickle p = {.c = c, .ops = ops, .perm = perm, .begin = c->pos, .err = err};
    lb_status st = LB_OK;
    *out = NULL;
    p.end = c->pos + LB_MIN(lb_cur_left(c), LB_PICKLE_MAX);
    p.shared = lb_arena_new(perm, lb_pv, 4);
    if (!p.shared || !grow(&p.stack, 0, &p.cap_stack, sizeof *p.stack))
        return lb_pickle_no_memory(&p);
    p.shared[1].kind = p.shared[2].kind = LB_PV_BOOL;
    p.shared[2].u.i = 1;
    p.shared[3].kind = LB_PV_TUPLE;
    while (!p.stopped)
        LB_TRY_DONE(st, step(&p));
    *out = p.stack[0];
done:
    lb_free(p.stack);
    lb_free(p.marks);
    lb_free(p.memo);
    return st;
}
