/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_parse_stmt.c: tags of a template -> tree. Grammar: jinja2's parser with the extensions that
 * transformers loads (loop controls, generation blocks). What needs other files (include, import,
 * extends) is refused by name. */
#include "text/jinja_ast.h"
#include <stdio.h>

static lb_status statements(lb_jparser *p, const char *const *ends, lb_jnode **out);

static lb_status node(lb_jparser *p, lb_jkind kind, u32 line, lb_jnode **out) {
    *out = lb_jparse_node(p, kind, line);
    return *out ? LB_OK : LB_E_NOMEM;
}

/* The body of a tag, up to (and without) one of the names that end it. */
static lb_status body(lb_jparser *p, const char *const *ends, lb_jnode **out) {
    (void)lb_jparse_skip_op(p, ':');
    LB_TRY(lb_jparse_expect(p, LB_JTOK_BLOCK_END));
    LB_TRY(lb_jparse_enter(p));
    LB_TRY(statements(p, ends, out));
    p->depth--;
    return LB_OK;
}

static lb_status whole_body(lb_jparser *p, const char *end, lb_jnode **out) {
    const char *const ends[] = {end, NULL};
    LB_TRY(body(p, ends, out));
    p->tok++;
    return LB_OK;
}

/* ---- targets ---- */

static lb_status name_target(lb_jparser *p, lb_jctx ctx, lb_jnode **out) {
    LB_TRY(node(p, LB_JN_NAME, p->tok->line, out));
    (*out)->name = p->tok->text;
    (*out)->ctx = (u8)ctx;
    LB_TRY(lb_jparse_expect_name(p, NULL));
    static const char *const reserved[] = {"true", "false", "none", "True", "False", "None"};
    for (size_t i = 0; i < LB_LEN(reserved); i++)
        if (lb_str_eq_c((*out)->name, reserved[i]))
            return lb_jparse_fail(p, (*out)->line, "can't assign to '%s'", reserved[i]);
    return LB_OK;
}

static lb_status check_target(lb_jparser *p, lb_jnode *n, lb_jctx ctx) {
    static const char *const names[] = {
        [LB_JN_CONST] = "const", [LB_JN_LIST] = "list", [LB_JN_DICT] = "dict"};
    if (n->kind == LB_JN_TUPLE) {
        for (lb_jnode *k = n->a; k; k = k->next)
            LB_TRY(check_target(p, k, ctx));
        return LB_OK;
    }
    if (n->kind != LB_JN_NAME && n->kind != LB_JN_NSREF)
        return lb_jparse_fail(p, n->line, "can't assign to '%s'",
                              n->kind < LB_LEN(names) && names[n->kind] ? names[n->kind]
                                                                        : "expression");
    n->ctx = (u8)ctx;
    return LB_OK;
}

static lb_status target(lb_jparser *p, lb_jtuple_opts o, lb_jctx ctx, lb_jnode **out) {
    o.simplified = true;
    LB_TRY(lb_jparse_tuple(p, o, out));
    return check_target(p, *out, ctx);
}

/* The same names once more. */
static lb_status copy_target(lb_jparser *p, const lb_jnode *n, lb_jnode **out) {
    lb_jnode **tail;
    LB_TRY(node(p, (lb_jkind)n->kind, n->line, out));
    (*out)->name = n->name;
    (*out)->ctx = n->ctx;
    tail = &(*out)->a;
    for (const lb_jnode *k = n->a; k; k = k->next) {
        LB_TRY(copy_target(p, k, tail));
        tail = &(*tail)->next;
    }
    return LB_OK;
}

/* ---- tags ---- */

static lb_status parse_set(lb_jparser *p, u32 line, lb_jnode **out) {
    lb_jnode *to;
    LB_TRY(target(p, (lb_jtuple_opts){.with_ns = true}, LB_JCTX_STORE, &to));
    bool plain = lb_jparse_skip_op(p, '=');
    LB_TRY(node(p, plain ? LB_JN_SET : LB_JN_SET_BLOCK, line, out));
    (*out)->a = to;
    if (plain)
        return lb_jparse_tuple(p, (lb_jtuple_opts){0}, &(*out)->b);
    LB_TRY(lb_jparse_filter(p, NULL, false, &(*out)->b));
    return whole_body(p, "endset", &(*out)->c);
}

static lb_status parse_for(lb_jparser *p, u32 line, lb_jnode **out) {
    static const char *const ends[] = {"endfor", "else", NULL};
    lb_jnode *n;
    LB_TRY(node(p, LB_JN_FOR, line, &n));
    *out = n;
    LB_TRY(target(p, (lb_jtuple_opts){.end = "in"}, LB_JCTX_STORE, &n->a));
    LB_TRY(lb_jparse_expect_name(p, "in"));
    LB_TRY(lb_jparse_tuple(p, (lb_jtuple_opts){.no_cond = true, .end = "recursive"}, &n->b));
    if (lb_jparse_skip_name(p, "if")) {
        LB_TRY(lb_jparse_expr(p, true, &n->e));
        LB_TRY(copy_target(p, n->a, &n->f));
    }
    n->flag = lb_jparse_skip_name(p, "recursive");
    LB_TRY(body(p, ends, &n->c));
    if (lb_str_eq_c(p->tok++->text, "endfor"))
        return LB_OK;
    return whole_body(p, "endfor", &n->d);
}

static lb_status parse_if(lb_jparser *p, u32 line, lb_jnode **out) {
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    lb_jnode *n, **tail;
    LB_TRY(node(p, LB_JN_IF, line, &n));
    *out = n;
    tail = &n->c;
    for (lb_jnode *part = n;;) {
        LB_TRY(lb_jparse_tuple(p, (lb_jtuple_opts){.no_cond = true}, &part->a));
        LB_TRY(body(p, ends, &part->b));
        lb_str tag = p->tok++->text;
        if (lb_str_eq_c(tag, "else"))
            return whole_body(p, "endif", &n->d);
        if (lb_str_eq_c(tag, "endif"))
            return LB_OK;
        LB_TRY(node(p, LB_JN_IF, p->tok->line, tail));
        part = *tail;
        tail = &part->next;
    }
}

static lb_status parse_with(lb_jparser *p, u32 line, lb_jnode **out) {
    lb_jnode *n, **to, **value;
    LB_TRY(node(p, LB_JN_WITH, line, &n));
    *out = n;
    to = &n->a;
    value = &n->b;
    while (p->tok->type != LB_JTOK_BLOCK_END) {
        if (n->a)
            LB_TRY(lb_jparse_expect_op(p, ','));
        LB_TRY(target(p, (lb_jtuple_opts){0}, LB_JCTX_PARAM, to));
        LB_TRY(lb_jparse_expect_op(p, '='));
        LB_TRY(lb_jparse_expr(p, true, value));
        to = &(*to)->next;
        value = &(*value)->next;
    }
    return whole_body(p, "endwith", &n->c);
}

static lb_status parse_signature(lb_jparser *p, lb_jnode *n) {
    lb_jnode **to = &n->a, **value = &n->b;
    LB_TRY(lb_jparse_expect_op(p, '('));
    while (!lb_jparse_is_op(p->tok, ')')) {
        if (n->a)
            LB_TRY(lb_jparse_expect_op(p, ','));
        LB_TRY(name_target(p, LB_JCTX_PARAM, to));
        for (const lb_jnode *k = n->a; k != *to; k = k->next)
            if (lb_str_eq(k->name, (*to)->name))
                return lb_jparse_fail(p, n->line, "duplicate argument '%.*s' in a macro",
                                      LB_FMT(k->name));
        if (lb_jparse_skip_op(p, '=')) {
            LB_TRY(lb_jparse_expr(p, true, value));
            value = &(*value)->next;
        } else if (n->b) {
            return lb_jparse_fail(p, p->tok->line, "non-default argument follows default argument");
        }
        to = &(*to)->next;
    }
    p->tok++;
    return LB_OK;
}

static lb_status parse_macro(lb_jparser *p, u32 line, lb_jnode **out) {
    lb_jnode *name;
    LB_TRY(node(p, LB_JN_MACRO, line, out));
    LB_TRY(name_target(p, LB_JCTX_STORE, &name));
    (*out)->name = name->name;
    LB_TRY(parse_signature(p, *out));
    return whole_body(p, "endmacro", &(*out)->c);
}

static lb_status parse_call_block(lb_jparser *p, u32 line, lb_jnode **out) {
    LB_TRY(node(p, LB_JN_CALL_BLOCK, line, out));
    if (lb_jparse_is_op(p->tok, '('))
        LB_TRY(parse_signature(p, *out));
    LB_TRY(lb_jparse_expr(p, true, &(*out)->d));
    if ((*out)->d->kind != LB_JN_CALL)
        return lb_jparse_fail(p, line, "expected call");
    return whole_body(p, "endcall", &(*out)->c);
}

static lb_status parse_block(lb_jparser *p, u32 line, lb_jnode **out) {
    lb_jblock *b = lb_arena_new(p->perm, lb_jblock, 1);
    if (!b)
        return lb_jparse_no_memory(p);
    LB_TRY(node(p, LB_JN_BLOCK, line, out));
    (*out)->name = p->tok->text;
    LB_TRY(lb_jparse_expect_name(p, NULL));
    if (lb_jparse_is_name(p->tok, "scoped") || lb_jparse_is_name(p->tok, "required"))
        return lb_fail(p->err, LB_E_UNSUPPORTED, "%s: line %u: '%.*s' blocks are not supported",
                       p->what, line, LB_FMT(p->tok->text));
    for (const lb_jblock *k = p->tree->blocks; k; k = k->next)
        if (lb_str_eq(k->name, (*out)->name))
            return lb_jparse_fail(p, line, "block '%.*s' defined twice", LB_FMT(k->name));
    *b = (lb_jblock){(*out)->name, *out, p->tree->blocks};
    p->tree->blocks = b;
    LB_TRY(whole_body(p, "endblock", &(*out)->c));
    if (p->tok->type == LB_JTOK_NAME && lb_str_eq(p->tok->text, (*out)->name))
        p->tok++;
    return LB_OK;
}

static lb_status parse_print(lb_jparser *p, u32 line, lb_jnode **out) {
    lb_jnode **tail;
    LB_TRY(node(p, LB_JN_OUTPUT, line, out));
    tail = &(*out)->a;
    while (p->tok->type != LB_JTOK_BLOCK_END) {
        if ((*out)->a)
            LB_TRY(lb_jparse_expect_op(p, ','));
        LB_TRY(lb_jparse_expr(p, true, tail));
        tail = &(*tail)->next;
    }
    return LB_OK;
}

static lb_status parse_filter_block(lb_jparser *p, u32 line, lb_jnode **out) {
    LB_TRY(node(p, LB_JN_FILTER_BLOCK, line, out));
    LB_TRY(lb_jparse_filter(p, NULL, true, &(*out)->b));
    return whole_body(p, "endfilter", &(*out)->c);
}

static lb_status parse_autoescape(lb_jparser *p, u32 line, lb_jnode **out) {
    LB_TRY(node(p, LB_JN_SCOPE, line, out));
    LB_TRY(lb_jparse_expr(p, true, &(*out)->a));
    return whole_body(p, "endautoescape", &(*out)->c);
}

static lb_status parse_generation(lb_jparser *p, u32 line, lb_jnode **out) {
    LB_TRY(node(p, LB_JN_CALL_BLOCK, line, out));
    return whole_body(p, "endgeneration", &(*out)->c);
}

static lb_status parse_break(lb_jparser *p, u32 line, lb_jnode **out) {
    return node(p, LB_JN_BREAK, line, out);
}

static lb_status parse_continue(lb_jparser *p, u32 line, lb_jnode **out) {
    return node(p, LB_JN_CONTINUE, line, out);
}

static lb_status refuse(lb_jparser *p, u32 line, lb_jnode **out) {
    *out = NULL;
    return lb_fail(p->err, LB_E_UNSUPPORTED,
                   "%s: line %u: '%.*s' is not supported: a chat template has no other files",
                   p->what, line, LB_FMT(p->tok[-1].text));
}

typedef struct tag {
    const char *name;
    lb_status (*parse)(lb_jparser *p, u32 line, lb_jnode **out);
} tag;

static const tag tags[] = {
    {"if", parse_if},
    {"for", parse_for},
    {"set", parse_set},
    {"macro", parse_macro},
    {"call", parse_call_block},
    {"filter", parse_filter_block},
    {"with", parse_with},
    {"print", parse_print},
    {"break", parse_break},
    {"continue", parse_continue},
    {"generation", parse_generation},
    {"block", parse_block},
    {"autoescape", parse_autoescape},
    {"include", refuse},
    {"import", refuse},
    {"from", refuse},
    {"extends", refuse},
};

static lb_status unknown_tag(lb_jparser *p, const char *const *ends) {
    lb_str name = p->tok->text;
    if (!ends)
        return lb_jparse_fail(p, p->tok->line, "Encountered unknown tag '%.*s'", LB_FMT(name));
    return lb_jparse_fail(p, p->tok->line, "Encountered unknown tag '%.*s'; looking for '%s'%s%s",
                          LB_FMT(name), ends[0], ends[1] ? " or " : "", ends[1] ? ends[1] : "");
}

static lb_status statement(lb_jparser *p, const char *const *ends, lb_jnode **out) {
    if (p->tok->type != LB_JTOK_NAME)
        return lb_jparse_fail(p, p->tok->line, "tag name expected");
    for (size_t i = 0; i < LB_LEN(tags); i++)
        if (lb_jparse_is_name(p->tok, tags[i].name)) {
            u32 line = p->tok++->line;
            LB_TRY(tags[i].parse(p, line, out));
            return lb_jparse_expect(p, LB_JTOK_BLOCK_END);
        }
    return unknown_tag(p, ends);
}

static lb_status text_node(lb_jparser *p, lb_jnode **out) {
    LB_TRY(node(p, LB_JN_DATA, p->tok->line, out));
    (*out)->text = p->tok++->text;
    return LB_OK;
}

static lb_status print_node(lb_jparser *p, lb_jnode **out) {
    u32 line = p->tok++->line;
    LB_TRY(node(p, LB_JN_OUTPUT, line, out));
    LB_TRY(lb_jparse_tuple(p, (lb_jtuple_opts){0}, &(*out)->a));
    return lb_jparse_expect(p, LB_JTOK_VAR_END);
}

/* ends NULL: up to the end of the template. Stands on the name that ended it. */
static lb_status statements(lb_jparser *p, const char *const *ends, lb_jnode **out) {
    *out = NULL;
    for (lb_jnode **tail = out;; tail = *tail ? &(*tail)->next : tail) {
        if (p->tok->type == LB_JTOK_DATA) {
            LB_TRY(text_node(p, tail));
        } else if (p->tok->type == LB_JTOK_VAR_BEGIN) {
            LB_TRY(print_node(p, tail));
        } else if (p->tok->type == LB_JTOK_BLOCK_BEGIN) {
            p->tok++;
            for (const char *const *e = ends; e && *e; e++)
                if (lb_jparse_is_name(p->tok, *e))
                    return LB_OK;
            LB_TRY(statement(p, ends, tail));
        } else if (p->tok->type == LB_JTOK_EOF && ends) {
            return lb_jparse_fail(p, p->tok->line,
                                  "Unexpected end of template; looking for '%s'%s%s", ends[0],
                                  ends[1] ? " or " : "", ends[1] ? ends[1] : "");
        } else {
            return LB_OK;
        }
    }
}

lb_status lb_jinja_parse(lb_str text, const char *what, lb_arena *perm, lb_jtree *out,
                         lb_err *err) {
    lb_buf tokens = {0};
    *out = (lb_jtree){0};
    lb_status st = lb_jinja_lex(text, what, perm, &tokens, err);
    if (st == LB_OK) {
        lb_jparser p = {.tok = (const lb_jtok *)(const void *)tokens.ptr,
                        .what = what,
                        .perm = perm,
                        .err = err,
                        .tree = out};
        st = statements(&p, NULL, &out->body);
    }
    lb_buf_deinit(&tokens);
    return st == LB_OK ? lb_jinja_scope(out, what, perm, err) : st;
}
