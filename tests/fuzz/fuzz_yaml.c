/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_yaml.c: the YAML reader on any bytes.
 *
 * Checked: no crash; what is read is written as JSON and reads back as the same tree; the limits
 * hold; where a repeated key is refused nothing else differs from the reading that takes the last.
 */
#include "io/yaml.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static bool same(const lb_json *a, const lb_json *b) {
    const lb_json *x = a->first, *y = b->first;
    if (a->type != b->type || a->n != b->n || !lb_str_eq(a->key, b->key))
        return false;
    if (a->type == LB_JBOOL ? a->truth != b->truth : !lb_str_eq(a->text, b->text))
        return false;
    for (; x && y; x = x->next, y = y->next)
        if (!same(x, y))
            return false;
    return !x && !y;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    lb_arena a = {.max_bytes = 64 * LB_MIB};
    lb_json *v, *w, *back;
    lb_buf b = {0};
    lb_str text = {(const char *)data, size};
    lb_status st = lb_yaml_parse(text, "t", 0, &a, &v, NULL);
    lb_status last = lb_yaml_parse(text, "t", LB_YAML_LAST_WINS, &a, &w, NULL);
    if (st == LB_OK) {
        LB_ASSERT(last == LB_OK && same(v, w));
        lb_json_write(&b, v, (lb_json_style){.indent = 1, .ascii = true});
        if (!b.oom && lb_str_is_utf8(text) &&
            lb_json_parse(lb_buf_str(&b), "t", &a, &back, NULL) == LB_OK) {
            v->key = LB_STR_NONE;
            if (v->type != LB_JBOOL)
                LB_ASSERT(same(v, back));
        }
    }
    lb_buf_deinit(&b);
    lb_arena_deinit(&a);
    return 0;
}
