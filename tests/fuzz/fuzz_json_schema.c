/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_json_schema.c: any JSON as a schema.
 *
 * Checked: no crash; what comes out is a grammar that compiles, or is beyond its limits. */
#include "text/grammar.h"
#include "text/json_schema.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    lb_arena a = {.max_bytes = 16 * LB_MIB};
    lb_json *schema;
    lb_buf text = {0};
    lb_grammar *g = NULL;
    if (lb_json_parse((lb_str){(const char *)data, size}, "t", &a, &schema, NULL) == LB_OK &&
        lb_json_schema_grammar(schema, &text, NULL) == LB_OK) {
        lb_status st = lb_grammar_compile(&g, lb_buf_str(&text), NULL, NULL);
        LB_ASSERT(st == LB_OK || st == LB_E_LIMIT || st == LB_E_NOMEM);
    }
    lb_grammar_free(&g);
    lb_buf_deinit(&text);
    lb_arena_deinit(&a);
    return 0;
}
