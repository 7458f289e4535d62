/* SPDX-License-Identifier: Apache-2.0 */
/* test_yaml.c: YAML texts against PyYAML's safe_load (tests/golden/yaml/yaml.json); limits,
 * aliases, merge keys, repeated keys, every prefix of a text, allocations that fail. */
#include "io/yaml.h"
#include "test.h"

static lb_json *golden(lb_arena *perm) {
    lb_err err = {0};
    lb_buf b = {0};
    lb_json *v = NULL;
    FILE *f = fopen(lb_test_golden("yaml/yaml.json"), "rb");
    char chunk[65536];
    size_t n;
    while (f && (n = fread(chunk, 1, sizeof chunk, f)) > 0)
        lb_buf_put(&b, chunk, n);
    if (f)
        fclose(f);
    lb_str text = lb_arena_str(perm, lb_buf_str(&b));
    lb_buf_deinit(&b);
    if (!f || lb_json_parse(text, "yaml.json", perm, &v, &err) != LB_OK)
        lb_test_fail(__FILE__, __LINE__, "golden file: %s", err.msg);
    return lb_json_get(v, "cases");
}

static bool same(const lb_json *got, const lb_json *want) {
    double x, y;
    const lb_json *special = lb_json_get(want, "float");
    if (got->type == LB_JNUMBER && special) {
        return lb_json_as_f64(got, &x) &&
               (lb_str_eq_c(special->text, "nan")
                    ? x != x
                    : x == (special->text.ptr[0] == '-' ? -1.0 / 0.0 : 1.0 / 0.0));
    }
    if (got->type != want->type)
        return false;
    if (got->type == LB_JNUMBER) {
        lb_arena a = {0};
        lb_json *again;
        bool json = lb_json_parse(got->text, "number", &a, &again, NULL) == LB_OK;
        lb_arena_deinit(&a);
        if (!json)
            return false;
        bool whole = lb_json_is_int(want);
        if (whole != lb_json_is_int(got))
            return false;
        if (whole && !lb_json_as_f64(want, &x))
            return false;
        if (whole && want->text.len > 15) /* as digits */
            return lb_str_eq(got->text, want->text);
        return lb_json_as_f64(got, &x) && lb_json_as_f64(want, &y) && x == y;
    }
    if (got->type == LB_JSTRING)
        return lb_str_eq(got->text, want->text);
    if (got->type == LB_JBOOL)
        return got->truth == want->truth;
    if (got->n != want->n)
        return false;
    const lb_json *w = want->first;
    for (const lb_json *g = got->first; g; g = g->next, w = w->next) {
        const lb_json *pair = got->type == LB_JOBJECT ? lb_json_get_str(want, g->key) : w;
        if (!pair || !same(g, pair))
            return false;
    }
    return true;
}

LB_TEST(as_pyyaml) {
    lb_arena a = {0};
    const lb_json *cases = golden(&a);
    CHECK(cases && cases->n > 400);
    for (const lb_json *c = cases->first; c; c = c->next) {
        lb_err err = {0};
        lb_json *v;
        lb_str text = lb_json_get(c, "text")->text;
        const lb_json *want = lb_json_get(c, "value");
        lb_status st = lb_yaml_parse(text, "t", 0, &a, &v, &err);
        if ((st == LB_OK) != (want != NULL) || (want && !same(v, want))) {
            lb_buf b = {0};
            lb_json_write_str(&b, text, true);
            lb_buf_put_c(&b, " -> ");
            if (st == LB_OK)
                lb_json_write(&b, v, (lb_json_style){0});
            lb_test_fail(__FILE__, __LINE__, "%.*s %s %s", LB_FMT(lb_buf_str(&b)), err.msg,
                         want ? "" : "expected an error");
            lb_buf_deinit(&b);
        }
    }
    lb_arena_deinit(&a);
}

static lb_status parse(const char *text, u32 flags, lb_json **v, lb_err *err) {
    static lb_arena a;
    lb_arena_reset(&a);
    return lb_yaml_parse(lb_str_c(text), "m.yml", flags, &a, v, err);
}

LB_TEST(repeated_keys) {
    lb_err err = {0};
    lb_json *v;
    i64 n;
    CHECK_U64(parse("a: 1\nb: 2\na: 3\n", 0, &v, &err), LB_E_FORMAT);
    CHECK(strstr(err.msg, "m.yml: line 3"));
    CHECK_OK(parse("a: 1\nb: 2\na: 3\n", LB_YAML_LAST_WINS, &v, &err));
    CHECK(v->n == 2 && lb_json_as_i64(lb_json_get(v, "a"), &n) && n == 3);
    CHECK_STR(v->first->key, "a");
}

/* Kept as text on purpose. */
LB_TEST(text_as_written) {
    lb_err err = {0};
    lb_json *v;
    CHECK_OK(parse("[2024-01-31, 1:30, 1:30.5]", 0, &v, &err));
    for (const lb_json *e = v->first; e; e = e->next)
        CHECK_U64(e->type, LB_JSTRING);
    CHECK_STR(v->first->text, "2024-01-31");
    CHECK_OK(parse("{1: a, yes: b, 1.50: c, ~: d}", 0, &v, &err));
    CHECK(lb_json_get(v, "1") && lb_json_get(v, "yes") && lb_json_get(v, "1.50") &&
          lb_json_get(v, "null"));
}

LB_TEST(limits) {
    lb_err err = {0};
    lb_json *v;
    char deep[2 * LB_JSON_DEPTH + 8] = "";
    memset(deep, '[', LB_JSON_DEPTH + 1);
    CHECK_U64(parse(deep, 0, &v, &err), LB_E_LIMIT);
    memset(deep, ']', sizeof deep);
    memset(deep, '[', LB_JSON_DEPTH);
    deep[2 * LB_JSON_DEPTH] = 0;
    CHECK_OK(parse(deep, 0, &v, &err));
    /* each alias doubles: 2^30 nodes from 30 lines */
    lb_buf b = {0};
    lb_buf_put_c(&b, "a0: &a0 [x, x]\n");
    for (int i = 1; i <= 30; i++)
        lb_buf_printf(&b, "a%d: &a%d [*a%d, *a%d]\n", i, i, i - 1, i - 1);
    lb_buf_put_u8(&b, 0);
    CHECK_U64(parse((const char *)b.ptr, 0, &v, &err), LB_E_LIMIT);
    /* depth through aliases alone */
    lb_buf_reset(&b);
    lb_buf_put_c(&b, "a0: &a0 [x]\n");
    for (int i = 1; i <= 70; i++)
        lb_buf_printf(&b, "a%d: &a%d [*a%d]\n", i, i, i - 1);
    lb_buf_put_u8(&b, 0);
    CHECK_U64(parse((const char *)b.ptr, 0, &v, &err), LB_E_LIMIT);
    lb_buf_reset(&b);
    for (int i = 0; i <= LB_YAML_KEYS_MAX; i++)
        lb_buf_printf(&b, "k%d: 1\n", i);
    lb_buf_put_u8(&b, 0);
    CHECK_U64(parse((const char *)b.ptr, 0, &v, &err), LB_E_LIMIT);
    lb_buf_deinit(&b);
    /* an anchor is not known inside its own node */
    CHECK_U64(parse("&a [*a]", 0, &v, &err), LB_E_FORMAT);
}

/* A member has its key's line, whatever stands between; copies have the place where they stand. */
LB_TEST(lines) {
    static const char text[] = "# first\na:\n\n  b: 1\n  c:\n  - x\n  - {d: 2,\n     e: 3}\n"
                               "p: &p {q: 1}\nr: *p\ns:\n  <<: *p\n  t: 1\n";
    lb_err err = {0};
    lb_json *v;
    CHECK_OK(parse(text, 0, &v, &err));
    CHECK_U64(v->line, 2);
    CHECK_U64(lb_json_get(v, "a")->line, 2);
    CHECK_U64(lb_json_path(v, "a.b")->line, 4);
    const lb_json *c = lb_json_path(v, "a.c");
    CHECK_U64(c->line, 5);
    CHECK_U64(c->first->line, 6);
    CHECK_U64(c->last->line, 7);
    CHECK_U64(lb_json_get(c->last, "e")->line, 8);
    CHECK_U64(lb_json_get(v, "r")->line, 10);
    CHECK_U64(lb_json_path(v, "r.q")->line, 9);
    CHECK_U64(lb_json_path(v, "s.t")->line, 13);
    CHECK_U64(lb_json_path(v, "s.q")->line, 9);
    CHECK_U64(parse("a: 1\nbee: 2\nbee: 3\n", 0, &v, &err), LB_E_FORMAT);
    CHECK(strstr(err.msg, "line 3: the key bee stands twice in one mapping (line 2)"));
}

static lb_status parse_all(const char *text, lb_json **v, lb_err *err) {
    static lb_arena a;
    lb_arena_reset(&a);
    return lb_yaml_parse_all(lb_str_c(text), "m.yml", 0, &a, v, err);
}

LB_TEST(documents) {
    lb_err err = {0};
    lb_json *v;
    CHECK_OK(parse_all("", &v, &err));
    CHECK_U64(v->n, 0);
    CHECK_OK(parse_all("a: 1\n", &v, &err));
    CHECK_U64(v->n, 1);
    CHECK_OK(parse_all("---\na: 1\n---\n- b\n...\n---\n", &v, &err));
    CHECK_U64(v->n, 3);
    CHECK(v->first->type == LB_JOBJECT && v->first->next->type == LB_JARRAY &&
          v->last->type == LB_JNULL);
    CHECK_U64(v->first->next->first->line, 4);
    /* anchors are those of one document */
    CHECK_U64(parse_all("a: &x 1\n---\nb: *x\n", &v, &err), LB_E_FORMAT);
    CHECK(strstr(err.msg, "line 3"));
    CHECK_U64(parse("a: 1\n---\nb: 2\n", 0, &v, &err), LB_E_FORMAT);
}

LB_TEST(every_prefix_and_failing_memory) {
    static const char text[] = "a: &x {k: [1, .5, 'q'], <<: {z: 1}}\nb: *x\nc: |\n  text\n";
    for (size_t n = 0; n < sizeof text; n++) {
        lb_arena a = {0};
        lb_json *v;
        lb_yaml_parse((lb_str){text, n}, "t", 0, &a, &v, NULL);
        lb_arena_deinit(&a);
    }
    for (u64 n = 1; n < 50; n++) {
        lb_arena a = {0};
        lb_json *v;
        lb_mem_fail_at(n);
        lb_status st = lb_yaml_parse(lb_str_c(text), "t", 0, &a, &v, NULL);
        lb_mem_fail_at(0);
        CHECK(st == LB_OK || st == LB_E_NOMEM);
        lb_arena_deinit(&a);
    }
}

LB_TEST_MAIN("fast")
