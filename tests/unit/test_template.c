/* SPDX-License-Identifier: Apache-2.0 */
/* test_template.c: templates: what Python renders (tests/golden/template), errors with their lines,
 * limits and bombs, conversations, memory faults. */
#include "test.h"
#include "base/os.h"
#include "text/chat.h"
#include <stdlib.h>

static lb_err err;

/* ---- helpers ---- */

static lb_status render(const char *text, const char *vars, const lb_template_opts *opts,
                        lb_buf *out) {
    lb_template *t;
    lb_arena a = {0};
    lb_json *v = NULL;
    lb_status st = lb_template_new(&t, lb_str_c(text), "t", &err);
    lb_buf_reset(out);
    if (st == LB_OK && vars)
        st = lb_json_parse(lb_str_c(vars), "vars", &a, &v, &err);
    if (st == LB_OK)
        st = lb_template_render(t, v, opts, out, &err);
    lb_template_free(&t);
    lb_arena_deinit(&a);
    return st;
}

typedef struct text_case {
    const char *template, *vars, *want;
} text_case;

static void check_texts(const text_case *c, size_t n) {
    lb_buf out = {0};
    for (size_t i = 0; i < n; i++) {
        lb_status st = render(c[i].template, c[i].vars, NULL, &out);
        if (st != LB_OK || !lb_str_eq_c(lb_buf_str(&out), c[i].want))
            lb_test_fail(__FILE__, __LINE__, "%s -> %s \"%.*s\", expected \"%s\"", c[i].template,
                         st == LB_OK ? "" : err.msg, LB_FMT(lb_buf_str(&out)), c[i].want);
    }
    lb_buf_deinit(&out);
}

/* ---- what Python renders ---- */

static lb_status run_case(const lb_json *c, const lb_json *vars, lb_arena *a, lb_buf *out) {
    lb_str file, text;
    char path[256];
    lb_chat *chat = NULL;
    lb_template *t = NULL;
    lb_chat_input in;
    lb_status st;
    if (lb_json_as_str(lb_json_get(c, "template"), &text)) {
        st = lb_template_new(&t, text, "t", &err);
        if (st == LB_OK)
            st = lb_template_render(t, vars, NULL, out, &err);
        lb_template_free(&t);
        return st;
    }
    (void)lb_json_as_str(lb_json_get(c, "file"), &file);
    (void)snprintf(path, sizeof path, "template/%.*s", LB_FMT(file));
    LB_TRY(lb_os_read_file(lb_test_golden(path), LB_MIB, a, &text, &err));
    LB_TRY(lb_chat_from_text(&chat, text, "t", &err));
    st = lb_chat_input_from_json(lb_json_get(c, "chat"), a, &in, &err);
    if (st == LB_OK)
        st = lb_chat_render(chat, &in, NULL, out, &err);
    lb_chat_close(&chat);
    return st;
}

LB_TEST(golden) {
    lb_arena a = {0};
    lb_str text, want;
    lb_json *all;
    u64 n = 0, n_texts = 0;
    CHECK_OK(lb_os_read_file(lb_test_golden("template/cases.json"), LB_MIB, &a, &text, &err));
    CHECK_OK(lb_json_parse(text, "cases.json", &a, &all, &err));
    for (const lb_json *c = lb_json_get(all, "cases")->first; c; c = c->next, n++) {
        lb_arena scratch = {0};
        lb_buf out = {0};
        lb_status st = run_case(c, lb_json_get(all, "vars"), &scratch, &out);
        bool texts = lb_json_as_str(lb_json_get(c, "text"), &want);
        n_texts += texts;
        if (texts ? st != LB_OK || !lb_str_eq(lb_buf_str(&out), want)
                  : st != LB_E_FORMAT && st != LB_E_UNSUPPORTED && st != LB_E_LIMIT)
            lb_test_fail(__FILE__, __LINE__, "case %llu: %s: \"%.*s\", expected \"%.*s\"",
                         (unsigned long long)n, st == LB_OK ? "text" : err.msg,
                         LB_FMT(lb_buf_str(&out)), LB_FMT(texts ? want : LB_STR("an error")));
        lb_buf_deinit(&out);
        lb_arena_deinit(&scratch);
    }
    lb_arena_deinit(&a);
    CHECK(n > 400 && n_texts > 300);
}

/* ---- parts of the language, with what Python gives ---- */

LB_TEST(language) {
    static const text_case cases[] = {
        {"{{ 7 // -2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 10 }} {{ 1e16 }} {{ 1e-05 }}", NULL,
         "-4 2 3.5 1024 1e+16 1e-05"},
        {"{{ 9223372036854775807 }} {{ 12345678901234567890123 }}", NULL,
         "9223372036854775807 12345678901234567890123"},
        {"a \n  {% if true %} \n b\n  {% endif %}\nc\n", NULL, "a \n \n b\nc"},
        {"a \n  {%- if true -%} \n b\n  {%+ endif %}\nc\n", NULL, "ab\n  c"},
        {"{% raw %}{{ x }}{% endraw %}{# no #}\r\nx\ry", NULL, "{{ x }}x\ny"},
        {"{{ 'a' 'b' ~ 1 ~ none }}", NULL, "ab1None"},
        {"{{ '\\u00e9\\x41\\n\\q' }}", NULL,
         "\xc3\xa9"
         "A\n\\q"},
        {"{{ x.items }} {{ x['items'] }} {{ x.a }}{{ x.zz }}", "{\"x\": {\"items\": 1, \"a\": 2}}",
         NULL},
        {"{{ x['items'] }} {{ x.a }}{{ x.zz }}.", "{\"x\": {\"items\": 1, \"a\": 2}}", "1 2."},
        {"{% for a, b in x.items() %}{{ loop.index }}{{ a }}{{ b }}{{ ',' if not loop.last }}"
         "{% endfor %}",
         "{\"x\": {\"k\": 1, \"l\": 2}}", "1k1,2l2"},
        {"{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i > 3 %}{% break %}"
         "{% endif %}{{ i }}{% endfor %}",
         NULL, "013"},
        {"{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{{ x }}{% endfor %}{{ x }}", NULL, "21"},
        {"{% set n = namespace(x=1) %}{% for i in [1] %}{% set n.x = 2 %}{% endfor %}{{ n.x }}",
         NULL, "2"},
        {"{% for i in l recursive %}{{ i if i is number else loop(i) }};{% endfor %}",
         "{\"l\": [1, [2, [3]]]}", "1;2;3;;;"},
        {"{% macro m(a, b=2) %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{{ caller(5) }}{% endmacro %}"
         "{% call(x) m(1, 3, 4, k=5) %}<{{ x }}>{% endcall %}",
         NULL, "13(4,){'k': 5}<5>"},
        {"{% set t %}a{{ 1 }}{% endset %}{{ t | upper }}{% filter upper %}b{% endfilter %}", NULL,
         "A1B"},
        {"{{ (l | selectattr('a')) and true }}{{ l | selectattr('a') | list | length }}",
         "{\"l\": []}", "True0"},
        {"{{ 'Stra\xc3\x9f"
         "e' | upper }} {{ '\xce\x9f\xce\x94\xce\x9f\xce\xa3' | lower }}",
         NULL, "STRASSE \xce\xbf\xce\xb4\xce\xbf\xcf\x82"},
        {"{{ {'\xc3\xa9': [1, 2.0, none, true, '<']} | tojson }}", NULL,
         "{\"\xc3\xa9\": [1, 2.0, null, true, \"<\"]}"},
        {"{{ '%05.1f|%-4s|%x' % (3.14159, 'ab', 255) }} {{ '{:>5}|{:,}'.format('x', 1234567) }}",
         NULL, "003.1|ab  |ff     x|1,234,567"},
        {"{{ 'c' > 'a' }}{{ ['a', 'c', 'b'] | max }}{{ ['b', 'd'] | sort(reverse=true) }}", NULL,
         "Truec['d', 'b']"},
        {"{% block a %}{% set y = 1 %}{{ x }}{% endblock %}", "{\"x\": 7}", "7"},
        {"{{ 9223372036854775807 + 1 }} {{ -9223372036854775807 - 2 }} {{ 99999999999 * "
         "99999999999 }}",
         NULL, "9223372036854775808 -9223372036854775809 9999999999800000000001"},
        {"{{ (-9223372036854775807 - 1) // -1 }} {{ (-9223372036854775807 - 1)|abs }} {{ "
         "-12345678901234567890123|abs }} {{ (-12345678901234567890123)|abs }} {{ "
         "(12345678901234567890123).real }}",
         NULL,
         "9223372036854775808 9223372036854775808 12345678901234567890123 "
         "12345678901234567890123 12345678901234567890123"},
    };
    lb_buf out = {0};
    CHECK(cases[7].want == NULL && render(cases[7].template, cases[7].vars, NULL, &out) != LB_OK);
    lb_buf_deinit(&out);
    check_texts(cases, 7);
    check_texts(cases + 8, LB_LEN(cases) - 8);
}

LB_TEST(clock) {
    const i64 now = 1770091506000789;
    lb_buf out = {0};
    CHECK_OK(render("{{ strftime_now('%d %b %Y %H:%M:%S.%f%z') }}", NULL,
                    &(lb_template_opts){.now_us = &now}, &out));
    CHECK_STR(lb_buf_str(&out), "03 Feb 2026 04:05:06.000789");
    lb_buf_deinit(&out);
}

/* ---- errors ---- */

typedef struct bad {
    const char *template;
    lb_status st;
    const char *say;
} bad;

LB_TEST(errors) {
    static const bad cases[] = {
        {"a\n{{ x.y }}", LB_E_FORMAT, "t: line 2: 'x' is undefined"},
        {"{{ {}.a.b }}", LB_E_FORMAT, "'dict object' has no attribute 'a'"},
        {"{{ raise_exception('no\nway') }}", LB_E_FORMAT, "t: line 1: no way"},
        {"{% if %}", LB_E_FORMAT, "Expected an expression, got 'end of statement block'"},
        {"\n\n{% for x in y %}", LB_E_FORMAT, "t: line 3: Unexpected end of template"},
        {"{% endfor %}", LB_E_FORMAT, "unknown tag 'endfor'"},
        {"{{ 'a }}", LB_E_FORMAT, "a string is not closed"},
        {"{{ (1] }}", LB_E_FORMAT, "unexpected ']', expected ')'"},
        {"{{ 1 $ }}", LB_E_FORMAT, "unexpected char '$'"},
        {"{{ 1 + 'a' }}", LB_E_FORMAT, "unsupported operand type(s) for +: 'int' and 'str'"},
        {"{{ [].append(1) }}", LB_E_FORMAT, "unsafe"},
        {"{{ ''.__class__.x }}", LB_E_FORMAT, "unsafe"},
        {"{{ x | nope }}", LB_E_FORMAT, "No filter named 'nope'"},
        {"{{ range(200000) }}", LB_E_FORMAT, "Range too big"},
        {"{{ 1 / 0 }}", LB_E_FORMAT, "division by zero"},
        {"{% break %}", LB_E_FORMAT, "outside of a loop"},
        {"{% include 'x' %}", LB_E_UNSUPPORTED, "'include' is not supported"},
        {"{% import 'x' as y %}", LB_E_UNSUPPORTED, "'import' is not supported"},
        {"{% extends 'x' %}", LB_E_UNSUPPORTED, "'extends' is not supported"},
        {"{{ [1] | random }}", LB_E_UNSUPPORTED, "'random' is not supported"},
        {"{{ 12345678901234567890123 + 1 }}", LB_E_UNSUPPORTED, "more than 64 bits"},
        {"{{ 12345678901234567890123|round(2, 'floor') }}", LB_E_UNSUPPORTED, "more than 64 bits"},
        {"{% set loop = 1 %}{% for x in y %}{% set loop = 2 %}{% endfor %}", LB_E_FORMAT,
         "special loop variable"},
        {"\xff", LB_E_FORMAT, "not UTF-8"},
    };
    lb_buf out = {0};
    for (size_t i = 0; i < LB_LEN(cases); i++) {
        size_t pos;
        lb_status st = render(cases[i].template, NULL, NULL, &out);
        if (st != cases[i].st || !lb_str_find(lb_str_c(err.msg), lb_str_c(cases[i].say), &pos) ||
            strchr(err.msg, '\n'))
            lb_test_fail(__FILE__, __LINE__, "%s -> %s: %s", cases[i].template, lb_status_text(st),
                         st == LB_OK ? "" : err.msg);
    }
    lb_buf_deinit(&out);
}

/* ---- bombs: each hits a limit, soon ---- */

LB_TEST(bombs) {
    static const char *const cases[] = {
        "{{ 'a' * 10**9 }}",
        "{{ [0] * 10**9 }}",
        "{{ 'x' | center(10**12) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ [1] | tojson(indent=10**9) }}",
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% for a in range(100000) %}{{ 'x' * 100000 }}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{% set n = namespace(s='ab') %}{% for i in range(100) %}{% set n.s = n.s + n.s %}"
        "{% endfor %}",
        "{% set n = namespace(s='a' * 1000) %}{% for i in range(100) %}"
        "{% set n.s = n.s.replace('a', n.s) %}{% endfor %}",
        "{% set n = namespace(l=[1]) %}{% for i in range(100) %}{% set n.l = n.l + n.l %}"
        "{% endfor %}",
        "{% set n = namespace(l=[1]) %}{% for i in range(5000) %}{% set n.l = [n.l, n.l] %}"
        "{% endfor %}{{ n.l }}",
        "{% set n = namespace(l=[1]) %}{% for i in range(5000) %}{% set n.l = [n.l] %}"
        "{% endfor %}{{ n.l == n.l }}{{ n.l | tojson }}",
        "{% set n = namespace(l=[1]) %}{% for i in range(5000) %}"
        "{% set n.l = n.l | map('string') %}{% endfor %}{{ n.l | list }}",
        "{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{% if s.find('b') > 0 %}{% endif %}"
        "{% endfor %}",
        "{% set s = 'a' * 1000000 %}{{ s.count('a' * 500000 + 'b') }}{{ s.replace('', s) }}",
        "{% set s = '\xc3\xa9' * 1000000 %}{% for i in range(100000) %}{{ s[999999] }}{% endfor %}",
        "{% set s = 'a ' * 1000000 %}{% for i in range(1000) %}{% set x = s.split() %}{% endfor %}",
        "{% for i in range(100000) %}{% set x = range(100000) | list %}{% endfor %}",
        "{{ range(100000) | map('string') | map('center', 100000) | join }}",
        "{% set x = range(100000) | list %}{% for i in x %}{{ x | sort | first }}{% endfor %}",
    };
    lb_buf out = {0};
    for (size_t i = 0; i < LB_LEN(cases); i++) {
        u64 before = lb_test_cpu_us(), ms;
        lb_status st = render(cases[i], NULL, NULL, &out);
        ms = (lb_test_cpu_us() - before) / 1000;
        if (st != LB_E_LIMIT || strchr(err.msg, '\n'))
            lb_test_fail(__FILE__, __LINE__, "%s -> %s %s", cases[i], lb_status_text(st),
                         st == LB_OK ? "" : err.msg);
        if (lb_test_timed() && ms > 2000)
            lb_test_fail(__FILE__, __LINE__, "%s: %llu ms", cases[i], (unsigned long long)ms);
    }
    lb_buf_deinit(&out);
}

/* A text of n times a part, in a template; all must end in an error or a text. */
static void nested(const char *before, const char *part, const char *middle, const char *after) {
    lb_buf t = {0}, out = {0};
    lb_buf_put_c(&t, before);
    for (u32 i = 0; i < 20000; i++)
        lb_buf_put_c(&t, part);
    lb_buf_put_c(&t, middle);
    for (u32 i = 0; i < 20000 && after; i++)
        lb_buf_put_c(&t, after);
    lb_buf_put_c(&t, before[0] == '{' ? " }}" : "");
    lb_buf_put_u8(&t, '\0');
    lb_status st = render((const char *)t.ptr, NULL, NULL, &out);
    if (st != LB_E_LIMIT && st != LB_E_FORMAT)
        lb_test_fail(__FILE__, __LINE__, "%s%s... -> %s", before, part, lb_status_text(st));
    lb_buf_deinit(&t);
    lb_buf_deinit(&out);
}

LB_TEST(nesting) {
    nested("{{ ", "(", "1", ")");
    nested("{{ ", "[", "1", "]");
    nested("{{ ", "not ", "1", NULL);
    nested("{{ ", "-", "1", NULL);
    nested("{{ ", "1+", "1", NULL);
    nested("{{ a", ".a", "", NULL);
    nested("{{ a", "|e", "", NULL);
    nested("{{ a", "()", "", NULL);
    nested("{{ ", "1 if 1 else ", "1", NULL);
    nested("{{ ", "a is b and ", "1", NULL);
    nested("", "{% if 1 %}", "x", "{% endif %}");
    nested("", "{% for x in y %}", "x", "{% endfor %}");
    nested("", "{% macro m() %}", "x", "{% endmacro %}");
    nested("", "{% filter e %}", "x", "{% endfilter %}");
}

LB_TEST(limits) {
    lb_buf out = {0};
    lb_template_opts o = {.limits = {.output_bytes = 10}};
    CHECK_U64(render("{% for i in range(6) %}xx{% endfor %}", NULL, &o, &out), LB_E_LIMIT);
    CHECK_U64(out.len, 0);
    CHECK_OK(render("0123456789", NULL, &o, &out));
    o = (lb_template_opts){.limits = {.steps = 1000}};
    CHECK_U64(render("{% for i in range(1000) %}{% endfor %}", NULL, &o, &out), LB_E_LIMIT);
    o = (lb_template_opts){.limits = {.depth = 20}};
    CHECK_U64(render("{{ [[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]] }}", NULL, &o, &out),
              LB_E_LIMIT);
    o = (lb_template_opts){.limits = {.memory_bytes = LB_MIB}};
    CHECK_U64(render("{{ range(100000) | list }}", NULL, &o, &out), LB_E_LIMIT);
    lb_buf_deinit(&out);
}

/* Appending to a text in a loop takes memory in proportion to the text. */
LB_TEST(appending) {
    lb_buf out = {0};
    lb_template_opts o = {.limits = {.memory_bytes = 24 * LB_MIB}};
    CHECK_OK(render("{% set n = namespace(s='') %}{% for i in range(20000) %}"
                    "{% set n.s = n.s + '0123456789' %}{% endfor %}"
                    "{{ n.s | length }}",
                    NULL, &o, &out));
    CHECK_STR(lb_buf_str(&out), "200000");
    lb_buf_deinit(&out);
}

/* ---- conversations ---- */

static lb_status chat(const char *template, const char *request, lb_buf *out) {
    lb_chat *c = NULL;
    lb_arena a = {0};
    lb_json *v;
    lb_chat_input in;
    lb_status st = lb_chat_from_text(&c, lb_str_c(template), "t", &err);
    lb_buf_reset(out);
    if (st == LB_OK)
        st = lb_json_parse(lb_str_c(request), "request", &a, &v, &err);
    if (st == LB_OK)
        st = lb_chat_input_from_json(v, &a, &in, &err);
    if (st == LB_OK)
        st = lb_chat_render(c, &in, NULL, out, &err);
    lb_chat_close(&c);
    lb_arena_deinit(&a);
    return st;
}

LB_TEST(conversation) {
    lb_buf out = {0};
    CHECK_OK(
        chat("{{ messages }}{{ add_generation_prompt }}{{ tools }}{{ documents }}{{ x }}{{ y }}",
             "{\"messages\": [{\"role\": \"a\", \"reasoning\": \"r\"}], \"x\": 1, "
             "\"chat_template_kwargs\": {\"y\": 2}}",
             &out));
    CHECK_STR(lb_buf_str(&out),
              "[{'thinking': 'r', 'role': 'a', 'reasoning': 'r', 'reasoning_content': 'r'}]"
              "TrueNoneNone12");
    CHECK_OK(chat("{{ messages[0] }}",
                  "{\"messages\": [{\"a\": 1, \"thinking\": \"t\", \"b\": 2}]}", &out));
    CHECK_STR(lb_buf_str(&out), "{'thinking': 't', 'a': 1, 'b': 2, 'reasoning_content': 't'}");
    CHECK_OK(chat("{{ messages }}{{ add_generation_prompt }}",
                  "{\"messages\": [], \"add_generation_prompt\": false}", &out));
    CHECK_STR(lb_buf_str(&out), "[]False");
    CHECK_U64(chat("", "{}", &out), LB_E_FORMAT);
    CHECK_U64(chat("", "[]", &out), LB_E_FORMAT);
    CHECK_U64(chat("", "{\"messages\": [1]}", &out), LB_E_FORMAT);
    CHECK_U64(chat("", "{\"messages\": {}}", &out), LB_E_FORMAT);
    CHECK_U64(chat("", "{\"messages\": [], \"tools\": 1}", &out), LB_E_FORMAT);
    CHECK_U64(chat("", "{\"messages\": [], \"tools\": [1]}", &out), LB_E_FORMAT);
    lb_buf_deinit(&out);
}

/* ---- every beginning of a template, and memory that fails ---- */

LB_TEST(prefixes) {
    lb_arena a = {0};
    lb_buf out = {0};
    lb_str text;
    CHECK_OK(lb_os_read_file(lb_test_golden("template/schema.jinja"), LB_MIB, &a, &text, &err));
    for (size_t n = 0; n < text.len; n++) {
        lb_template *t = NULL;
        lb_status st = lb_template_new(&t, lb_str_sub(text, 0, n), "t", &err);
        CHECK(st == LB_OK || st == LB_E_FORMAT);
        lb_template_free(&t);
    }
    lb_buf_deinit(&out);
    lb_arena_deinit(&a);
}

LB_TEST(memory_faults) {
    static const char *const request =
        "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": "
        "\"x\"}]}, "
        "{\"role\": \"assistant\", \"thinking\": \"t\", \"content\": \"y\"}], \"tools\": "
        "[{\"parameters\": {\"type\": \"object\", \"properties\": {\"a\": {}}}}]}";
    lb_arena a = {0};
    lb_buf out = {0};
    lb_str text;
    u64 n = 1;
    CHECK_OK(lb_os_read_file(lb_test_golden("template/schema.jinja"), LB_MIB, &a, &text, &err));
    lb_str copy = lb_arena_str(&a, text);
    for (; n < 5000; n++) {
        lb_mem_fail_at(n);
        lb_status st = chat(copy.ptr, request, &out);
        lb_mem_fail_at(0);
        if (st == LB_OK)
            break;
        if (st != LB_E_NOMEM)
            lb_test_fail(__FILE__, __LINE__, "allocation %llu: %s", (unsigned long long)n, err.msg);
    }
    CHECK(n > 10 && n < 5000);
    lb_buf_deinit(&out);
    lb_arena_deinit(&a);
}

LB_TEST_MAIN("fast")
