/* SPDX-License-Identifier: Apache-2.0 */
/* JSON schemas as grammars: documents that must be writable and that must not; what is refused. */
#include "test.h"
#include "text/grammar.h"
#include "text/json_schema.h"
#include <stdio.h>

static lb_err err;

static lb_status compile(const char *text, lb_grammar **g) {
    lb_arena a = {0};
    lb_buf grammar = {0};
    lb_json *schema;
    *g = NULL;
    lb_status st = lb_json_parse(lb_str_c(text), "schema", &a, &schema, &err);
    LB_ASSERT(st == LB_OK);
    st = lb_json_schema_grammar(schema, &grammar, &err);
    if (st == LB_OK)
        st = lb_grammar_compile(g, lb_buf_str(&grammar), NULL, &err);
    lb_buf_deinit(&grammar);
    lb_arena_deinit(&a);
    return st;
}

static bool matches(const lb_grammar *g, const char *text) {
    lb_grammar_matcher *m;
    lb_grammar_state *s = NULL;
    bool ok;
    lb_status st = lb_grammar_matcher_new(&m, g, NULL, 0, &err);
    if (st == LB_OK)
        st = lb_grammar_state_new(&s, m, &err);
    if (st == LB_OK)
        st = lb_grammar_accept(s, lb_str_c(text), &ok, &err);
    LB_ASSERT(st == LB_OK);
    ok = ok && lb_grammar_is_complete(s);
    lb_grammar_state_free(&s);
    lb_grammar_matcher_free(&m);
    return ok;
}

static const struct {
    const char *schema, *yes[8], *no[8];
} cases[] = {
    {"{}", {"1", "{\"a\": [null, true]}", "\"x\""}, {"", "nul", "{a:1}"}},
    {"true", {"1"}, {"", "1 2"}},
    {"{\"type\":\"object\"}", {"{}", "{\"a\":1}"}, {"[]", "1"}},
    {"{\"type\":[\"string\",\"null\"]}", {"\"a\"", "null"}, {"1", "true"}},
    {"{\"type\":\"integer\"}", {"0", "-12", "7"}, {"1.5", "01", "-", "1e3"}},
    {"{\"type\":\"number\"}", {"0", "-1.25", "1e5", "2E-3"}, {"01", ".5", "1."}},
    {"{\"enum\":[\"a\\n\\\"b\",1,null,{\"x\":[1]}]}",
     {"\"a\\n\\\"b\"", "1", "null", "{\"x\":[1]}"},
     {"2", "\"a\""}},
    {"{\"const\":\"x\"}", {"\"x\""}, {"\"y\""}},
    {"{\"type\":\"integer\",\"enum\":[1,\"a\",2]}", {"1", "2"}, {"\"a\""}},
    {"{\"type\":\"integer\",\"minimum\":0,\"maximum\":255}",
     {"0", "9", "99", "199", "255"},
     {"256", "-1", "00", "1000"}},
    {"{\"type\":\"integer\",\"minimum\":-12,\"maximum\":7}",
     {"-12", "-1", "0", "7"},
     {"-13", "8", "-0"}},
    {"{\"type\":\"integer\",\"exclusiveMinimum\":9,\"exclusiveMaximum\":12}",
     {"10", "11"},
     {"9", "12"}},
    {"{\"type\":\"integer\",\"minimum\":345}", {"345", "999", "1000", "3450"}, {"344", "99"}},
    {"{\"type\":\"integer\",\"maximum\":-5}", {"-5", "-66"}, {"-4", "0", "5"}},
    {"{\"type\":\"number\",\"minimum\":0,\"exclusiveMaximum\":10}",
     {"0", "9.99", "0.0"},
     {"10", "-1", "10.0"}},
    {"{\"type\":\"number\",\"exclusiveMinimum\":0}", {"0.5", "1", "12.25"}, {"0", "0.0", "-0.5"}},
    {"{\"type\":\"number\",\"minimum\":-2,\"maximum\":1}",
     {"-2", "-1.5", "-2.0", "1.00", "0.3"},
     {"-2.5", "1.5"}},
    {"{\"type\":\"string\",\"minLength\":1,\"maxLength\":3}",
     {"\"a\"", "\"\xc3\xa9\xc3\xa9\xc3\xa9\"", "\"\\n\\\"\""},
     {"\"\"", "\"abcd\""}},
    {"{\"type\":\"string\",\"pattern\":\"^a+(b|c)?[0-9]{2}$\"}",
     {"\"aab12\"", "\"a00\""},
     {"\"b12\"", "\"a1\"", "\"xa12\""}},
    {"{\"type\":\"string\",\"pattern\":\"b\\\\d\"}", {"\"b1\"", "\"xxb7yy\""}, {"\"b\"", "\"\""}},
    {"{\"type\":\"string\",\"pattern\":\"^[^a-z]\\\\\\\\\\\"\\\\n.$\"}",
     {"\"A\\\\\\\"\\nx\"", "\"\\t\\\\\\\"\\n\\\"\""},
     {"\"A\"", "\"a\\\\\\\"\\nx\""}},
    {"{\"type\":\"string\",\"pattern\":\"^x$|^y\"}", {"\"x\"", "\"yyy\""}, {"\"xx\"", "\"zy\""}},
    {"{\"type\":\"string\",\"pattern\":\"^[]x$|^y[^]$\"}", {"\"yz\""}, {"\"x\""}},
    {"{\"type\":\"string\",\"format\":\"date\"}",
     {"\"2024-02-28\"", "\"1999-12-31\""},
     {"\"2024-13-01\"", "\"2024-04-31\"", "\"1\""}},
    {"{\"type\":\"string\",\"format\":\"date-time\"}",
     {"\"2024-02-28T23:59:59Z\"", "\"2024-02-28T01:02:03.5+02:00\""},
     {"\"2024-02-28\""}},
    {"{\"type\":\"string\",\"format\":\"uuid\"}",
     {"\"01234567-89ab-cdef-0123-456789abcdef\""},
     {"\"0123\""}},
    {"{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":1,\"maxItems\":3}",
     {"[1]", "[1, 2,3]"},
     {"[]", "[1,2,3,4]", "[\"a\"]"}},
    {"{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"maxItems\":1}",
     {"[]", "[7]"},
     {"[1,2]"}},
    {"{\"type\":\"array\",\"maxItems\":0}", {"[]"}, {"[1]"}},
    {"{\"type\":\"array\",\"prefixItems\":[{\"type\":\"string\"},{\"type\":\"null\"}],\"items\":"
     "false,\"minItems\":2}",
     {"[\"a\",null]"},
     {"[]", "[\"a\"]", "[\"a\",null,1]"}},
    {"{\"type\":\"array\",\"prefixItems\":[{\"type\":\"string\"}],\"items\":{\"type\":\"integer\"}"
     "}",
     {"[]", "[\"a\"]", "[\"a\",1,2]"},
     {"[1]"}},
    {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"null\"},"
     "\"c\":{}},\"required\":[\"b\"]}",
     {"{\"b\":null}", "{\"a\": 1, \"b\": null}", "{\"a\":1,\"b\":null,\"c\":\"x\"}",
      "{ \"b\": null }"},
     {"{ \"b\" : null }", "{\"a\":1 ,\"b\":null}", "{}", "{\"a\":1}", "{\"b\":null,\"a\":1}",
      "{\"b\":null,}", "{\"b\":null,\"d\":1}", "{,\"b\":null}"}},
    {"{\"type\":\"object\",\"properties\":{\"ab\":{\"type\":\"integer\"}},\"additionalProperties\":"
     "{\"type\":\"string\"}}",
     {"{}", "{\"ab\":1}", "{\"ab\":1,\"a\":\"x\",\"abc\":\"y\"}", "{\"x\":\"y\",\"\":\"z\"}"},
     {"{\"ab\":\"x\"}", "{\"a\":1}", "{\"\\u0061b\":\"x\"}"}},
    {"{\"type\":\"object\",\"properties\":{\"\\\"\":{},\"a\\\\\":{}},\"additionalProperties\":{}}",
     {"{\"\\\"\":1,\"a\":2,\"\":3}"},
     {"{\"\"\":1}", "{\"a\\\":1}"}},
    {"{\"type\":\"object\",\"additionalProperties\":false}", {"{}"}, {"{\"a\":1}"}},
    {"{\"type\":\"object\",\"required\":[\"q\\\"\"]}", {"{\"q\\\"\":1}"}, {"{}"}},
    {"{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"string\",\"maxLength\":1}]}",
     {"12", "\"a\""},
     {"\"ab\"", "null"}},
    {"{\"type\":\"string\",\"oneOf\":[{\"type\":\"integer\"},{\"maxLength\":1}]}",
     {"\"a\""},
     {"1", "\"ab\""}},
    {"{\"allOf\":[{\"type\":[\"integer\",\"string\"]},{\"type\":[\"integer\",\"null\"]}],"
     "\"minimum\":3}",
     {"3"},
     {"2", "null", "\"a\""}},
    {"{\"allOf\":[{\"properties\":{\"a\":{\"type\":\"integer\"}},\"required\":[\"a\"]},{"
     "\"properties\":{\"a\":{\"minimum\":5},\"b\":{\"type\":\"null\"}}}],\"type\":\"object\"}",
     {"{\"a\":5}", "{\"a\":6,\"b\":null}"},
     {"{\"a\":4}", "{}"}},
    {"{\"$ref\":\"#/$defs/n~1ode\",\"$defs\":{\"n/"
     "ode\":{\"type\":\"object\",\"properties\":{\"v\":{\"type\":\"integer\"},\"next\":{\"anyOf\":["
     "{\"$ref\":\"#/%24defs/n~1ode\"},{\"type\":\"null\"}]}},\"required\":[\"v\",\"next\"]}}}",
     {"{\"v\":1,\"next\":{\"v\":2,\"next\":null}}"},
     {"{\"v\":1}", "{\"v\":1,\"next\":3}"}},
    {"{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}}", {"[]", "[[],[[]]]"}, {"[1]"}},
};

LB_TEST(documents) {
    for (u32 i = 0; i < LB_LEN(cases); i++) {
        lb_grammar *g;
        CHECK_OK(compile(cases[i].schema, &g));
        for (u32 j = 0; j < 8 && cases[i].yes[j]; j++)
            if (!matches(g, cases[i].yes[j]))
                lb_test_fail(__FILE__, __LINE__, "%s: not %s", cases[i].schema, cases[i].yes[j]);
        for (u32 j = 0; j < 8 && cases[i].no[j]; j++)
            if (matches(g, cases[i].no[j]))
                lb_test_fail(__FILE__, __LINE__, "%s: takes %s", cases[i].schema, cases[i].no[j]);
        lb_grammar_free(&g);
    }
}

static const struct {
    const char *schema;
    lb_status status;
    const char *message;
} refused[] = {
    {"false", LB_E_FORMAT, "no value is valid"},
    {"{\"type\":\"strin\"}", LB_E_FORMAT, "schema: #: the type \"strin\" is not known"},
    {"{\"allOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]}", LB_E_FORMAT, "contradicts itself"},
    {"{\"type\":\"object\",\"properties\":{\"a\":{\"not\":{}}}}", LB_E_UNSUPPORTED, "\"not\""},
    {"{\"type\":\"array\",\"uniqueItems\":true}", LB_E_UNSUPPORTED, "\"uniqueItems\""},
    {"{\"multipleOf\":3}", LB_E_UNSUPPORTED, "\"multipleOf\""},
    {"{\"patternProperties\":{}}", LB_E_UNSUPPORTED, "\"patternProperties\""},
    {"{\"$ref\":\"http://x/y\"}", LB_E_UNSUPPORTED, "only references into the schema"},
    {"{\"$ref\":\"#/$defs/x\"}", LB_E_NOT_FOUND, "leads nowhere"},
    {"{\"type\":\"string\",\"format\":\"pony\"}", LB_E_UNSUPPORTED, "the format \"pony\""},
    {"{\"type\":\"string\",\"pattern\":\"(?=a)\"}", LB_E_UNSUPPORTED, "look-around"},
    {"{\"type\":\"string\",\"pattern\":\"(a)\\\\1\"}", LB_E_UNSUPPORTED, "back references"},
    {"{\"type\":\"string\",\"pattern\":\"a)\"}", LB_E_UNSUPPORTED, "too many"},
    {"{\"type\":\"string\",\"pattern\":\"(a\"}", LB_E_UNSUPPORTED, "missing"},
    {"{\"type\":\"string\",\"pattern\":\"[a\"}", LB_E_UNSUPPORTED, "does not end"},
    {"{\"type\":\"string\",\"minLength\":3,\"maxLength\":2}", LB_E_FORMAT, "below minLength"},
    {"{\"type\":\"string\",\"pattern\":\"a\",\"maxLength\":2}", LB_E_UNSUPPORTED, "only one of"},
    {"{\"type\":\"integer\",\"minimum\":3,\"maximum\":2}", LB_E_FORMAT, "between minimum and"},
    {"{\"type\":\"number\",\"minimum\":0.5}", LB_E_UNSUPPORTED, "only whole bounds"},
    {"{\"type\":\"array\",\"minItems\":3,\"maxItems\":2}", LB_E_FORMAT, "minItems"},
    {"{\"type\":\"array\",\"minItems\":100000000}", LB_E_LIMIT, "minItems"},
    {"{\"type\":\"object\",\"properties\":{\"a\":false},\"required\":[\"a\"]}", LB_E_FORMAT,
     "the required property \"a\""},
    {"{\"enum\":[]}", LB_E_FORMAT, "contradicts itself"},
    {"{\"type\":\"object\",\"required\":[\"a\"],\"properties\":{\"a\":{\"$ref\":\"#\"}}}",
     LB_E_FORMAT, "no document is valid"},
    {"{\"type\":\"string\",\"pattern\":\"^[]x$|^y'[]$\"}", LB_E_FORMAT, "no document is valid"},
    {"{\"enum\":[1],\"minimum\":0}", LB_E_UNSUPPORTED, "minimum beside enum"},
    {"{\"type\":\"object\",\"properties\":{\"a\":{\"items\":{\"type\":3}}}}", LB_E_FORMAT,
     "#/properties/a/items: type"},
    {"{\"$ref\":\"#/$defs/a\",\"$defs\":{\"a\":{\"$ref\":\"#/$defs/"
     "b\"},\"b\":{\"anyOf\":[{\"$ref\":\"#/$defs/a\"},{\"type\":\"null\"}]}}}",
     LB_E_FORMAT, "refers to itself"},
    {"[]", LB_E_FORMAT, "neither an object nor"},
    {"{\"$ref\":\"#\"}", LB_E_FORMAT, "refers to itself"},
    {"{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":\"null\"}]}", LB_E_FORMAT, "refers to itself"},
};

LB_TEST(refused_by_name_and_pointer) {
    for (u32 i = 0; i < LB_LEN(refused); i++) {
        lb_grammar *g;
        lb_status st = compile(refused[i].schema, &g);
        if (st != refused[i].status || !strstr(err.msg, refused[i].message))
            lb_test_fail(__FILE__, __LINE__, "%s: %s: %s", refused[i].schema, lb_status_text(st),
                         st ? err.msg : "");
        lb_grammar_free(&g);
    }
}

LB_TEST(integers_between) {
    static const i64 bounds[][2] = {{0, 0},        {-1, 1},    {3, 17},  {95, 1205},
                                    {-1000, -999}, {-20, 300}, {10, 99}, {100, 100}};
    for (u32 i = 0; i < LB_LEN(bounds); i++) {
        char text[128];
        lb_grammar *g;
        snprintf(text, sizeof text, "{\"type\":\"integer\",\"minimum\":%lld,\"maximum\":%lld}",
                 (long long)bounds[i][0], (long long)bounds[i][1]);
        CHECK_OK(compile(text, &g));
        for (i64 v = -1100; v < 1400; v++) {
            snprintf(text, sizeof text, "%lld", (long long)v);
            CHECK(matches(g, text) == (v >= bounds[i][0] && v <= bounds[i][1]));
        }
        lb_grammar_free(&g);
    }
}

LB_TEST(bombs_are_bounded) {
    lb_buf b = {0};
    lb_grammar *g;
    /* Every level has two alternatives of the next, for each of two conditions. */
    lb_buf_put_c(&b, "{\"$ref\":\"#/$defs/a0\",\"$defs\":{");
    for (u32 i = 0; i < 200; i++)
        lb_buf_printf(&b,
                      "\"a%u\":{\"allOf\":[{\"anyOf\":[{\"$ref\":\"#/$defs/a%u\"},{\"$ref\":\"#/"
                      "$defs/a%u\"}]},{\"anyOf\":[{\"$ref\":\"#/$defs/a%u\"},{}]}]},",
                      i, i + 1, i + 2, (i * 7 + 3) % 200);
    lb_buf_put_c(&b, "\"a200\":{},\"a201\":{}}}");
    lb_buf_put_u8(&b, 0);
    CHECK(!b.oom);
    lb_status st = compile((const char *)b.ptr, &g);
    CHECK(st == LB_E_LIMIT || st == LB_OK);
    lb_grammar_free(&g);
    lb_buf_deinit(&b);
    CHECK(compile("{\"type\":\"string\",\"pattern\":\"((a{1000}){1000}){1000}\"}", &g) == LB_OK);
    lb_grammar_free(&g);
    CHECK(compile("{\"type\":\"string\",\"pattern\":\"a{1000000}\"}", &g) == LB_E_LIMIT);
}

LB_TEST_MAIN("fast")
