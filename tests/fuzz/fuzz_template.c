/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_template.c: any bytes as a chat template, rendered with fixed variables.
 *
 * Checked: no crash, no leak, the limits hold, an error is one line, the same text twice, and
 * nothing is appended by a render that fails. */
#include "text/template.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static const char vars[] =
    "{\"s\": \"Hello, W\\u00f6rld\\n\", \"e\": \"\", \"i\": 7, \"f\": 2.5, \"b\": true, \"n\": "
    "null, "
    "\"big\": 12345678901234567890123, \"l\": [3, 1, 2, \"a\", null, [1]], \"d\": {\"a\": 1, "
    "\"b\": "
    "[1, 2], \"items\": {\"k\": \"v\"}}, \"messages\": [{\"role\": \"system\", \"content\": "
    "\"x\"}, "
    "{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"y\"}]}, {\"role\": "
    "\"assistant\", \"tool_calls\": [{\"function\": {\"name\": \"f\", \"arguments\": {\"a\": "
    "1}}}]}], "
    "\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": {}}}], "
    "\"bos_token\": \"<s>\", \"add_generation_prompt\": true}";

int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    const i64 now = 1770091506000789;
    const lb_template_opts o = {.limits = {.steps = 300000,
                                           .output_bytes = 256 * LB_KIB,
                                           .memory_bytes = 16 * LB_MIB,
                                           .depth = 300},
                                .now_us = &now};
    lb_arena a = {0};
    lb_json *v = NULL;
    lb_template *t = NULL;
    lb_buf one = {0}, two = {0};
    lb_err err = {0};
    lb_status st = lb_json_parse(lb_str_c(vars), "vars", &a, &v, NULL);
    LB_ASSERT(st == LB_OK);
    st = lb_template_new(&t, (lb_str){(const char *)data, size}, "t", &err);
    LB_ASSERT((st == LB_OK) == (t != NULL));
    if (st == LB_OK) {
        st = lb_template_render(t, v, &o, &one, &err);
        LB_ASSERT(one.len <= 256 * LB_KIB && (st == LB_OK || one.len == 0));
        LB_ASSERT(lb_template_render(t, v, &o, &two, NULL) == st);
        LB_ASSERT(lb_str_eq(lb_buf_str(&one), lb_buf_str(&two)));
    }
    if (st != LB_OK)
        LB_ASSERT(err.code == st && err.msg[0] && !strchr(err.msg, '\n'));
    lb_template_free(&t);
    lb_buf_deinit(&one);
    lb_buf_deinit(&two);
    lb_arena_deinit(&a);
    return 0;
}
