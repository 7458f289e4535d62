/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_sensitivity.c: the reader of figures of sensitivity on any bytes.
 *
 * Checked: no crash; what is taken has figures from 0 for each of its types and tensors of
 * different names; written and read again it is the same; what is refused says so in one line. */
#include "ops/sensitivity.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static void check(const lb_sensitivity *s) {
    LB_ASSERT(s->n_types && s->n_types <= LB_SENSITIVITY_TYPES_MAX && s->n_tensors);
    for (u64 i = 0; i < s->n_tensors; i++) {
        const lb_sensitivity_tensor *t = &s->tensors[i];
        LB_ASSERT(t->name.len && t->shape.rank && t->shape.rank <= LB_RANK_MAX);
        LB_ASSERT(i > 1000 || lb_sensitivity_find(s, t->name) == t);
        for (u32 k = 0; k < s->n_types; k++) {
            LB_ASSERT(t->kl[k] >= 0 || t->kl[k] != t->kl[k]);
            LB_ASSERT(t->error[k] >= 0 || t->error[k] != t->error[k]);
        }
    }
}

static void same(const lb_sensitivity *a, const lb_sensitivity *b) {
    LB_ASSERT(a->n_types == b->n_types && a->n_tensors == b->n_tensors);
    for (u64 i = 0; i < a->n_tensors; i++) {
        LB_ASSERT(lb_str_eq(a->tensors[i].name, b->tensors[i].name));
        LB_ASSERT(lb_shape_eq(&a->tensors[i].shape, &b->tensors[i].shape));
    }
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    lb_arena a = {.max_bytes = 64 * LB_MIB}, again = {.max_bytes = 256 * LB_MIB};
    lb_err err = {0};
    lb_sensitivity s, t;
    lb_buf text = {0};
    lb_status st = lb_sensitivity_parse((lb_str){(const char *)data, size}, "t", &a, &s, &err);
    LB_ASSERT(st == LB_OK || err.msg[0]);
    if (st == LB_OK) {
        check(&s);
        lb_sensitivity_write(&s, &text);
        st = lb_sensitivity_parse(lb_buf_str(&text), "written", &again, &t, &err);
        LB_ASSERT(st == LB_OK || err.code == LB_E_NOMEM);
        if (st == LB_OK)
            same(&s, &t);
    }
    lb_buf_deinit(&text);
    lb_arena_deinit(&again);
    lb_arena_deinit(&a);
    return 0;
}
