/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_parse.c: expressions of a template -> tree. Grammar: jinja2's parser. */
#include "text/jinja_ast.h"
#include "text/jinja_builtin.h"
#include <stdio.h>

lb_status lb_jparse_fail(lb_jparser *p, u32 line, const char *fmt, ...) {
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return lb_fail(p->err, LB_E_FORMAT, "%s: line %u: %s", p->what, line, text);
}

lb_status lb_jparse_no_memory(lb_jparser *p) {
    return lb_fail(p->err, LB_E_NOMEM, "%s: out of memory for the template", p->what);
}

lb_jnode *lb_jparse_node(lb_jparser *p, lb_jkind kind, u32 line) {
    lb_jnode *n = lb_arena_new(p->perm, lb_jnode, 1);
    if (!n) {
        (void)lb_jparse_no_memory(p);
        return NULL;
    }
    n->kind = (u8)kind;
    n->line = line;
    n->slot = LB_JSLOT_NONE;
    return n;
}

lb_status lb_jparse_enter(lb_jparser *p) {
    if (p->depth == LB_JINJA_NEST_MAX)
        return lb_fail(p->err, LB_E_LIMIT, "%s: line %u: nested more than %d deep", p->what,
                       p->tok->line, LB_JINJA_NEST_MAX);
    p->depth++;
    return LB_OK;
}

bool lb_jparse_is_name(const lb_jtok *t, const char *name) {
    return t->type == LB_JTOK_NAME && lb_str_eq_c(t->text, name);
}

bool lb_jparse_skip_name(lb_jparser *p, const char *name) {
    if (!lb_jparse_is_name(p->tok, name))
        return false;
    p->tok++;
    return true;
}

bool lb_jparse_skip_op(lb_jparser *p, u16 op) {
    if (!lb_jparse_is_op(p->tok, op))
        return false;
    p->tok++;
    return true;
}

static const char *type_text(u8 type) {
    switch (type) {
    case LB_JTOK_EOF:
        return "end of template";
    case LB_JTOK_DATA:
        return "template data / text";
    case LB_JTOK_VAR_BEGIN:
        return "begin of print statement";
    case LB_JTOK_VAR_END:
        return "end of print statement";
    case LB_JTOK_BLOCK_BEGIN:
        return "begin of statement block";
    case LB_JTOK_BLOCK_END:
        return "end of statement block";
    case LB_JTOK_STRING:
        return "string";
    case LB_JTOK_NUMBER:
        return "number";
    default:
        return "name";
    }
}

void lb_jparse_describe(const lb_jtok *t, char *out, size_t size) {
    if (t->type == LB_JTOK_NAME)
        (void)snprintf(out, size, "%.*s", (int)LB_MIN(t->text.len, 60), t->text.ptr);
    else if (t->type == LB_JTOK_OP)
        (void)snprintf(out, size, "%c%c", t->op & 0xff, t->op >> 8);
    else
        (void)snprintf(out, size, "%s", type_text(t->type));
}

static lb_status expected(lb_jparser *p, const char *what) {
    char got[64];
    if (p->tok->type == LB_JTOK_EOF)
        return lb_jparse_fail(p, p->tok->line, "unexpected end of template, expected '%s'", what);
    lb_jparse_describe(p->tok, got, sizeof got);
    return lb_jparse_fail(p, p->tok->line, "expected token '%s', got '%s'", what, got);
}

lb_status lb_jparse_expect(lb_jparser *p, lb_jtok_type type) {
    if (p->tok->type != type)
        return expected(p, type_text((u8)type));
    if (type != LB_JTOK_EOF)
        p->tok++;
    return LB_OK;
}

lb_status lb_jparse_expect_name(lb_jparser *p, const char *name) {
    if (p->tok->type != LB_JTOK_NAME || (name && !lb_str_eq_c(p->tok->text, name)))
        return expected(p, name ? name : "name");
    p->tok++;
    return LB_OK;
}

lb_status lb_jparse_expect_op(lb_jparser *p, u16 op) {
    char text[3] = {(char)(op & 0xff), (char)(op >> 8), '\0'};
    if (!lb_jparse_is_op(p->tok, op))
        return expected(p, text);
    p->tok++;
    return LB_OK;
}

/* Its depth from those below; a tree that is too deep would be too deep to run. */
static lb_status finish(lb_jparser *p, lb_jnode *n, lb_jnode **out) {
    const lb_jnode *kids[] = {n->a, n->b, n->c, n->d};
    u16 depth = 0;
    for (size_t i = 0; i < LB_LEN(kids); i++)
        for (const lb_jnode *k = kids[i]; k; k = k->next)
            depth = LB_MAX(depth, k->depth);
    if (depth >= LB_JINJA_NEST_MAX)
        return lb_fail(p->err, LB_E_LIMIT, "%s: line %u: an expression nests more than %d deep",
                       p->what, n->line, LB_JINJA_NEST_MAX);
    n->depth = (u16)(depth + 1);
    *out = n;
    return LB_OK;
}

static lb_status node(lb_jparser *p, lb_jkind kind, u32 line, lb_jnode **out) {
    *out = lb_jparse_node(p, kind, line);
    return *out ? LB_OK : LB_E_NOMEM;
}

static lb_status constant(lb_jparser *p, lb_jval v, u32 line, lb_jnode **out) {
    LB_TRY(node(p, LB_JN_CONST, line, out));
    (*out)->value = v;
    (*out)->depth = 1;
    return LB_OK;
}

/* ---- primary expressions ---- */

static lb_status parse_name(lb_jparser *p, bool with_ns, lb_jnode **out) {
    const lb_jtok *t = p->tok++;
    if (lb_jparse_is_name(t, "true") || lb_jparse_is_name(t, "True"))
        return constant(p, lb_jv_bool(true), t->line, out);
    if (lb_jparse_is_name(t, "false") || lb_jparse_is_name(t, "False"))
        return constant(p, lb_jv_bool(false), t->line, out);
    if (lb_jparse_is_name(t, "none") || lb_jparse_is_name(t, "None"))
        return constant(p, lb_jv_none(), t->line, out);
    bool ns = with_ns && lb_jparse_skip_op(p, '.');
    LB_TRY(node(p, ns ? LB_JN_NSREF : LB_JN_NAME, t->line, out));
    (*out)->name = t->text;
    (*out)->depth = 1;
    if (ns) {
        (*out)->text = p->tok->text;
        LB_TRY(lb_jparse_expect_name(p, NULL));
    }
    return LB_OK;
}

/* Neighbouring strings are one. */
static lb_status parse_string(lb_jparser *p, lb_jnode **out) {
    u32 line = p->tok->line;
    lb_str s = p->tok++->text;
    if (p->tok->type == LB_JTOK_STRING) {
        lb_buf b = {0};
        lb_buf_put_str(&b, s);
        for (; p->tok->type == LB_JTOK_STRING; p->tok++)
            lb_buf_put_str(&b, p->tok->text);
        s = b.oom ? LB_STR_NONE : lb_arena_str(p->perm, lb_buf_str(&b));
        lb_buf_deinit(&b);
        if (!s.ptr)
            return lb_jparse_no_memory(p);
    }
    lb_jval v;
    LB_TRY(lb_jtree_str(p->perm, s, &v, p->err));
    return constant(p, v, line, out);
}

static lb_status parse_items(lb_jparser *p, u32 line, bool dict, lb_jnode **out) {
    u16 end = dict ? '}' : ']';
    lb_jnode **tail;
    LB_TRY(node(p, dict ? LB_JN_DICT : LB_JN_LIST, line, out));
    tail = &(*out)->a;
    for (bool any = false; !lb_jparse_is_op(p->tok, end); any = true) {
        if (any) {
            LB_TRY(lb_jparse_expect_op(p, ','));
            if (lb_jparse_is_op(p->tok, end))
                break;
        }
        LB_TRY(lb_jparse_expr(p, true, tail));
        tail = &(*tail)->next;
        if (dict) {
            LB_TRY(lb_jparse_expect_op(p, ':'));
            LB_TRY(lb_jparse_expr(p, true, tail));
            tail = &(*tail)->next;
        }
    }
    LB_TRY(lb_jparse_expect_op(p, end));
    return finish(p, *out, out);
}

lb_status lb_jparse_primary(lb_jparser *p, bool with_ns, lb_jnode **out) {
    const lb_jtok *t = p->tok;
    char text[64];
    if (t->type == LB_JTOK_NAME)
        return parse_name(p, with_ns, out);
    if (t->type == LB_JTOK_STRING)
        return parse_string(p, out);
    if (t->type == LB_JTOK_NUMBER) {
        p->tok++;
        return constant(p, t->value, t->line, out);
    }
    if (lb_jparse_skip_op(p, '(')) {
        LB_TRY(lb_jparse_tuple(p, (lb_jtuple_opts){.parens = true}, out));
        return lb_jparse_expect_op(p, ')');
    }
    if (lb_jparse_skip_op(p, '['))
        return parse_items(p, t->line, false, out);
    if (lb_jparse_skip_op(p, '{'))
        return parse_items(p, t->line, true, out);
    lb_jparse_describe(t, text, sizeof text);
    return lb_jparse_fail(p, t->line, "unexpected '%s'", text);
}

static bool tuple_ends(const lb_jparser *p, const char *end) {
    return p->tok->type == LB_JTOK_VAR_END || p->tok->type == LB_JTOK_BLOCK_END ||
           lb_jparse_is_op(p->tok, ')') || (end && lb_jparse_is_name(p->tok, end));
}

lb_status lb_jparse_tuple(lb_jparser *p, lb_jtuple_opts o, lb_jnode **out) {
    u32 line = p->tok->line;
    lb_jnode *first = NULL, **tail = &first, *tuple;
    bool is_tuple = false;
    char text[64];
    for (;;) {
        if (first)
            LB_TRY(lb_jparse_expect_op(p, ','));
        if (tuple_ends(p, o.end))
            break;
        if (o.simplified)
            LB_TRY(lb_jparse_primary(p, o.with_ns, tail));
        else
            LB_TRY(lb_jparse_expr(p, !o.no_cond, tail));
        tail = &(*tail)->next;
        if (!lb_jparse_is_op(p->tok, ','))
            break;
        is_tuple = true;
        line = p->tok->line;
    }
    if (!is_tuple && first) {
        *out = first;
        return LB_OK;
    }
    if (!is_tuple && !o.parens) {
        lb_jparse_describe(p->tok, text, sizeof text);
        return lb_jparse_fail(p, p->tok->line, "Expected an expression, got '%s'", text);
    }
    LB_TRY(node(p, LB_JN_TUPLE, line, &tuple));
    tuple->a = first;
    return finish(p, tuple, out);
}

/* ---- what follows a primary expression ---- */

static lb_status parse_subscribed(lb_jparser *p, lb_jnode **out) {
    u32 line = p->tok->line;
    lb_jnode *first = NULL, *slice;
    if (!lb_jparse_is_op(p->tok, ':')) {
        LB_TRY(lb_jparse_expr(p, true, &first));
        if (!lb_jparse_is_op(p->tok, ':')) {
            *out = first;
            return LB_OK;
        }
    }
    p->tok++;
    LB_TRY(node(p, LB_JN_SLICE, line, &slice));
    slice->a = first;
    if (!lb_jparse_is_op(p->tok, ':') && !lb_jparse_is_op(p->tok, ']') &&
        !lb_jparse_is_op(p->tok, ','))
        LB_TRY(lb_jparse_expr(p, true, &slice->b));
    if (lb_jparse_skip_op(p, ':') && !lb_jparse_is_op(p->tok, ']') && !lb_jparse_is_op(p->tok, ','))
        LB_TRY(lb_jparse_expr(p, true, &slice->c));
    return finish(p, slice, out);
}

static lb_status parse_subscript(lb_jparser *p, lb_jnode *of, lb_jnode **out) {
    const lb_jtok *t = p->tok++, *attr = p->tok;
    lb_jnode *n, *arg = NULL, **tail = &arg;
    u32 count = 0;
    if (t->op == '.') {
        bool name = attr->type == LB_JTOK_NAME;
        if (!name && (attr->type != LB_JTOK_NUMBER || attr->value.type != LB_JT_INT))
            return lb_jparse_fail(p, attr->line, "expected name or number");
        p->tok++;
        LB_TRY(node(p, name ? LB_JN_ATTR : LB_JN_ITEM, t->line, &n));
        n->a = of;
        n->text = attr->text;
        if (name)
            LB_TRY(lb_jtree_str(p->perm, attr->text, &n->value, p->err));
        else
            LB_TRY(constant(p, attr->value, attr->line, &n->b));
        return finish(p, n, out);
    }
    for (; !lb_jparse_is_op(p->tok, ']'); count++) {
        if (count)
            LB_TRY(lb_jparse_expect_op(p, ','));
        LB_TRY(parse_subscribed(p, tail));
        tail = &(*tail)->next;
    }
    p->tok++;
    if (count != 1) {
        lb_jnode *tuple;
        LB_TRY(node(p, LB_JN_TUPLE, t->line, &tuple));
        for (const lb_jnode *k = arg; k; k = k->next)
            if (k->kind == LB_JN_SLICE)
                return lb_jparse_fail(p, t->line, "a slice in a tuple is not supported");
        tuple->a = arg;
        LB_TRY(finish(p, tuple, &arg));
    }
    LB_TRY(node(p, LB_JN_ITEM, t->line, &n));
    n->a = of;
    n->b = arg;
    return finish(p, n, out);
}

/* "(...)": into n's b, c and d. */
static lb_status parse_args(lb_jparser *p, lb_jnode *n) {
    u32 line = p->tok->line;
    lb_jnode **tail = &n->b;
    bool comma = false, kw = false;
    LB_TRY(lb_jparse_expect_op(p, '('));
    for (; !lb_jparse_is_op(p->tok, ')'); comma = true) {
        bool ok = true;
        if (comma) {
            LB_TRY(lb_jparse_expect_op(p, ','));
            if (lb_jparse_is_op(p->tok, ')'))
                break;
        }
        if (lb_jparse_is_op(p->tok, '*')) {
            ok = !n->c && !n->d;
            p->tok++;
            LB_TRY(lb_jparse_expr(p, true, &n->c));
        } else if (lb_jparse_is_op(p->tok, LB_JOP('*', '*'))) {
            ok = !n->d;
            p->tok++;
            LB_TRY(lb_jparse_expr(p, true, &n->d));
        } else if (p->tok->type == LB_JTOK_NAME && lb_jparse_is_op(p->tok + 1, '=')) {
            ok = !n->d;
            kw = true;
            LB_TRY(node(p, LB_JN_KEYWORD, p->tok->line, tail));
            (*tail)->name = p->tok->text;
            p->tok += 2;
            LB_TRY(lb_jparse_expr(p, true, &(*tail)->a));
            LB_TRY(finish(p, *tail, tail));
            for (const lb_jnode *k = n->b; k != *tail; k = k->next)
                if (k->kind == LB_JN_KEYWORD && lb_str_eq(k->name, (*tail)->name))
                    return lb_jparse_fail(p, line, "keyword argument repeated: %.*s",
                                          LB_FMT(k->name));
            tail = &(*tail)->next;
        } else {
            ok = !n->c && !n->d && !kw;
            LB_TRY(lb_jparse_expr(p, true, tail));
            tail = &(*tail)->next;
        }
        if (!ok)
            return lb_jparse_fail(p, line, "invalid syntax for function call expression");
    }
    return lb_jparse_expect_op(p, ')');
}

static lb_status parse_call(lb_jparser *p, lb_jnode *of, lb_jnode **out) {
    lb_jnode *n;
    LB_TRY(node(p, LB_JN_CALL, p->tok->line, &n));
    n->a = of;
    LB_TRY(parse_args(p, n));
    return finish(p, n, out);
}

static lb_status parse_postfix(lb_jparser *p, lb_jnode *n, lb_jnode **out) {
    for (;;) {
        if (lb_jparse_is_op(p->tok, '.') || lb_jparse_is_op(p->tok, '['))
            LB_TRY(parse_subscript(p, n, &n));
        else if (lb_jparse_is_op(p->tok, '('))
            LB_TRY(parse_call(p, n, &n));
        else
            break;
    }
    *out = n;
    return LB_OK;
}

/* "name" or "name.name". */
static lb_status parse_dotted(lb_jparser *p, lb_str *name) {
    *name = p->tok->text;
    LB_TRY(lb_jparse_expect_name(p, NULL));
    while (lb_jparse_skip_op(p, '.')) {
        *name = lb_arena_printf(p->perm, "%.*s.%.*s", LB_FMT(*name), LB_FMT(p->tok->text));
        if (!name->ptr)
            return lb_jparse_no_memory(p);
        LB_TRY(lb_jparse_expect_name(p, NULL));
    }
    return LB_OK;
}

lb_status lb_jparse_filter(lb_jparser *p, lb_jnode *of, bool in_line, lb_jnode **out) {
    while (in_line || lb_jparse_is_op(p->tok, '|')) {
        lb_jnode *n;
        if (!in_line)
            p->tok++;
        in_line = false;
        LB_TRY(node(p, LB_JN_FILTER, p->tok->line, &n));
        LB_TRY(parse_dotted(p, &n->name));
        n->def = lb_jfilter_find(n->name);
        n->a = of;
        if (lb_jparse_is_op(p->tok, '('))
            LB_TRY(parse_args(p, n));
        LB_TRY(finish(p, n, &of));
    }
    *out = of;
    return LB_OK;
}

/* Whether an argument without parentheses follows a test's name. */
static bool test_argument(const lb_jtok *t) {
    if (t->type == LB_JTOK_NAME)
        return !lb_jparse_is_name(t, "else") && !lb_jparse_is_name(t, "or") &&
               !lb_jparse_is_name(t, "and");
    return t->type == LB_JTOK_STRING || t->type == LB_JTOK_NUMBER || lb_jparse_is_op(t, '[') ||
           lb_jparse_is_op(t, '{');
}

static lb_status parse_test(lb_jparser *p, lb_jnode *of, lb_jnode **out) {
    u32 line = p->tok++->line;
    bool negated = lb_jparse_skip_name(p, "not");
    lb_jnode *n, *inverse;
    LB_TRY(node(p, LB_JN_TEST, line, &n));
    LB_TRY(parse_dotted(p, &n->name));
    n->def = lb_jtest_find(n->name);
    n->a = of;
    if (lb_jparse_is_op(p->tok, '(')) {
        LB_TRY(parse_args(p, n));
    } else if (test_argument(p->tok)) {
        if (lb_jparse_is_name(p->tok, "is"))
            return lb_jparse_fail(p, p->tok->line, "You cannot chain multiple tests with is");
        LB_TRY(lb_jparse_primary(p, false, &n->b));
        LB_TRY(parse_postfix(p, n->b, &n->b));
    }
    LB_TRY(finish(p, n, out));
    if (!negated)
        return LB_OK;
    LB_TRY(node(p, LB_JN_NOT, line, &inverse));
    inverse->a = *out;
    return finish(p, inverse, out);
}

static lb_status parse_filter_expr(lb_jparser *p, lb_jnode *n, lb_jnode **out) {
    for (;;) {
        if (lb_jparse_is_op(p->tok, '|'))
            LB_TRY(lb_jparse_filter(p, n, false, &n));
        else if (lb_jparse_is_name(p->tok, "is"))
            LB_TRY(parse_test(p, n, &n));
        else if (lb_jparse_is_op(p->tok, '('))
            LB_TRY(parse_call(p, n, &n));
        else
            break;
    }
    *out = n;
    return LB_OK;
}

static lb_status parse_unary(lb_jparser *p, bool with_filter, lb_jnode **out) {
    u32 line = p->tok->line;
    lb_jnode *n;
    LB_TRY(lb_jparse_enter(p));
    if (lb_jparse_is_op(p->tok, '-') || lb_jparse_is_op(p->tok, '+')) {
        LB_TRY(node(p, p->tok++->op == '-' ? LB_JN_NEG : LB_JN_POS, line, &n));
        LB_TRY(parse_unary(p, false, &n->a));
        LB_TRY(finish(p, n, &n));
    } else {
        LB_TRY(lb_jparse_primary(p, false, &n));
    }
    LB_TRY(parse_postfix(p, n, out));
    p->depth--;
    return with_filter ? parse_filter_expr(p, *out, out) : LB_OK;
}

/* ---- operators: levels from the loosest to the tightest ---- */

enum {
    LEVEL_OR,
    LEVEL_AND,
    LEVEL_NOT,
    LEVEL_COMPARE,
    LEVEL_SUM,
    LEVEL_CONCAT,
    LEVEL_PRODUCT,
    LEVEL_POWER,
    LEVEL_UNARY
};

static lb_status parse_level(lb_jparser *p, u32 level, lb_jnode **out);

/* The operator at the current token that a level knows; 0: none. */
static u16 operator_of(const lb_jparser *p, u32 level) {
    const lb_jtok *t = p->tok;
    u16 op = t->type == LB_JTOK_OP ? t->op : 0;
    switch (level) {
    case LEVEL_OR:
        return lb_jparse_is_name(t, "or") ? LB_JOP('o', 'r') : 0;
    case LEVEL_AND:
        return lb_jparse_is_name(t, "and") ? LB_JOP('a', 'n') : 0;
    case LEVEL_COMPARE:
        if (lb_jparse_is_name(t, "in"))
            return LB_JIN;
        if (lb_jparse_is_name(t, "not") && lb_jparse_is_name(t + 1, "in"))
            return LB_JNOTIN;
        return op == LB_JOP('=', '=') || op == LB_JOP('!', '=') || op == '<' || op == '>' ||
                       op == LB_JOP('<', '=') || op == LB_JOP('>', '=')
                   ? op
                   : 0;
    case LEVEL_SUM:
        return op == '+' || op == '-' ? op : 0;
    case LEVEL_CONCAT:
        return op == '~' ? op : 0;
    case LEVEL_PRODUCT:
        return op == '*' || op == '/' || op == '%' || op == LB_JOP('/', '/') ? op : 0;
    case LEVEL_POWER:
        return op == LB_JOP('*', '*') ? op : 0;
    default:
        return 0;
    }
}

/* Items in one node: "a ~ b ~ c", "a < b <= c". */
static lb_status parse_chain(lb_jparser *p, u32 level, lb_jnode *first, lb_jnode **out) {
    bool compare = level == LEVEL_COMPARE;
    u32 line = p->tok->line;
    lb_jnode *n, **tail;
    u16 op;
    LB_TRY(node(p, compare ? LB_JN_COMPARE : LB_JN_CONCAT, line, &n));
    n->a = first;
    tail = compare ? &n->b : &n->a->next;
    while ((op = operator_of(p, level))) {
        p->tok += op == LB_JNOTIN ? 2 : 1;
        if (compare) {
            LB_TRY(node(p, LB_JN_OPERAND, p->tok->line, tail));
            (*tail)->op = op;
            LB_TRY(parse_level(p, level + 1, &(*tail)->a));
            LB_TRY(finish(p, *tail, tail));
        } else {
            LB_TRY(parse_level(p, level + 1, tail));
        }
        tail = &(*tail)->next;
    }
    return finish(p, n, out);
}

static lb_status parse_not(lb_jparser *p, lb_jnode **out) {
    lb_jnode *n;
    u32 line = p->tok->line;
    if (!lb_jparse_skip_name(p, "not"))
        return parse_level(p, LEVEL_COMPARE, out);
    LB_TRY(lb_jparse_enter(p));
    LB_TRY(node(p, LB_JN_NOT, line, &n));
    LB_TRY(parse_not(p, &n->a));
    p->depth--;
    return finish(p, n, out);
}

static lb_status parse_level(lb_jparser *p, u32 level, lb_jnode **out) {
    lb_jnode *left, *n;
    u16 op;
    if (level == LEVEL_UNARY)
        return parse_unary(p, true, out);
    if (level == LEVEL_NOT)
        return parse_not(p, out);
    LB_TRY(parse_level(p, level + 1, &left));
    if ((level == LEVEL_COMPARE || level == LEVEL_CONCAT) && operator_of(p, level))
        return parse_chain(p, level, left, out);
    while ((op = operator_of(p, level))) {
        LB_TRY(node(p,
                    level == LEVEL_OR    ? LB_JN_OR
                    : level == LEVEL_AND ? LB_JN_AND
                                         : LB_JN_BINARY,
                    p->tok->line, &n));
        p->tok++;
        n->op = op;
        n->a = left;
        LB_TRY(parse_level(p, level + 1, &n->b));
        LB_TRY(finish(p, n, &left));
    }
    *out = left;
    return LB_OK;
}

lb_status lb_jparse_expr(lb_jparser *p, bool with_cond, lb_jnode **out) {
    lb_jnode *n, *cond;
    u32 line = p->tok->line;
    LB_TRY(lb_jparse_enter(p));
    LB_TRY(parse_level(p, LEVEL_OR, &n));
    while (with_cond && lb_jparse_skip_name(p, "if")) {
        LB_TRY(node(p, LB_JN_COND, line, &cond));
        cond->b = n;
        LB_TRY(parse_level(p, LEVEL_OR, &cond->a));
        if (lb_jparse_skip_name(p, "else"))
            LB_TRY(lb_jparse_expr(p, true, &cond->c));
        LB_TRY(finish(p, cond, &n));
        line = p->tok->line;
    }
    p->depth--;
    *out = n;
    return LB_OK;
}
