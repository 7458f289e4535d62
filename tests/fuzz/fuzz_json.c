/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_json.c: reader, tree and writer on any bytes.
 *
 * Checked: no crash; the pull reader and the tree agree on what is refused, duplicate keys apart;
 * what is read is written, in four styles, to a text that reads to the same text again; copies and
 * numbers too. */
#include "io/json.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

/* Without a check of duplicates. *n_values: tokens that make a node. */
static lb_status pull_all(lb_str text, u64 *n_values, lb_arena *a) {
    lb_json_reader r;
    lb_json_tok tok;
    *n_values = 0;
    lb_json_begin(&r, text);
    do {
        LB_TRY(lb_json_next(&r, &tok, NULL));
        if (tok == LB_JSON_KEY || tok == LB_JSON_STRING) {
            lb_str s;
            LB_TRY(lb_json_string(&r, a, &s, NULL));
            LB_ASSERT(s.len <= r.raw.len);
        }
        *n_values += tok != LB_JSON_KEY && tok != LB_JSON_OBJECT_END && tok != LB_JSON_ARRAY_END &&
                     tok != LB_JSON_END;
    } while (tok != LB_JSON_END);
    return LB_OK;
}

static u64 count(const lb_json *v) {
    u64 n = 1, i64_ok, children = 0;
    double x;
    i64 i;
    u64 u;
    if (lb_json_as_i64(v, &i)) {
        i64_ok = lb_json_as_f64(v, &x) && (double)i == x;
        LB_ASSERT(i64_ok);
    }
    if (lb_json_as_u64(v, &u)) {
        i64_ok = lb_json_as_f64(v, &x) && (double)u == x;
        LB_ASSERT(i64_ok);
    }
    for (const lb_json *c = v->first; c; c = c->next, children++) {
        n += count(c);
        LB_ASSERT(c->next || v->last == c);
    }
    LB_ASSERT(children == v->n);
    return n;
}

static void check_fixpoint(const lb_json *v, lb_json_style style) {
    lb_arena a = {0};
    lb_buf x = {0}, y = {0};
    lb_json *again;
    lb_json_write(&x, v, style);
    LB_ASSERT(lb_json_parse(lb_buf_str(&x), "written", &a, &again, NULL) == LB_OK);
    lb_json_write(&y, lb_json_copy(&a, again), style);
    LB_ASSERT(lb_str_eq(lb_buf_str(&x), lb_buf_str(&y)));
    LB_ASSERT(count(v) == count(again));
    lb_buf_deinit(&x);
    lb_buf_deinit(&y);
    lb_arena_deinit(&a);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    lb_arena a = {0};
    lb_err err = {0};
    lb_json *v;
    u64 n_values;
    lb_str text = {(const char *)data, size};
    lb_status pulled = pull_all(text, &n_values, &a);
    lb_status st = lb_json_parse(text, "input", &a, &v, &err);
    if (st == LB_OK) {
        LB_ASSERT(pulled == LB_OK && count(v) == n_values);
        check_fixpoint(v, (lb_json_style){0});
        check_fixpoint(v, (lb_json_style){.compact = true, .ascii = true});
        check_fixpoint(v, (lb_json_style){.indent = 2});
        lb_json_sort_keys(v);
        LB_ASSERT(count(v) == n_values);
        check_fixpoint(v, (lb_json_style){.indent = 1, .ascii = true});
    } else {
        size_t pos;
        LB_ASSERT(err.code == LB_E_FORMAT && err.msg[0] && err.off <= size);
        LB_ASSERT(pulled != LB_OK || lb_str_find(lb_str_c(err.msg), LB_STR("twice"), &pos));
    }
    lb_arena_deinit(&a);
    return 0;
}
