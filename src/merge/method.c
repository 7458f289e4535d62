/* SPDX-License-Identifier: Apache-2.0 */
/* method.c: the table of merge methods, and what builders share. */
#include "merge/method.h"
#include "kernel/half.h"

#define LB_MERGE_METHOD(id) extern const lb_merge_method lb_merge_##id;
#include "merge/methods.def"
#undef LB_MERGE_METHOD

static const lb_merge_method *const methods[] = {
#define LB_MERGE_METHOD(id) &lb_merge_##id,
#include "merge/methods.def"
#undef LB_MERGE_METHOD
};

const lb_merge_method *lb_merge_method_at(u32 i) {
    return i < LB_LEN(methods) ? methods[i] : NULL;
}

const lb_merge_method *lb_merge_method_find(lb_str name) {
    for (u32 i = 0; i < LB_LEN(methods); i++)
        if (lb_str_eq_c(name, methods[i]->name))
            return methods[i];
    return NULL;
}

u32 lb_merge_param_find(const lb_merge_method *m, lb_str name) {
    for (u32 i = 0; i < m->n_params; i++)
        if (lb_str_eq_c(name, m->params[i].name))
            return i;
    return UINT32_MAX;
}

static u32 index_of(const lb_merge_method *m, const char *name) {
    u32 i = lb_merge_param_find(m, lb_str_c(name));
    LB_ASSERT(i < m->n_params);
    return i;
}

double lb_merge_shared(const lb_merge_method *m, const lb_merge_job *j, const char *name) {
    return j->param[index_of(m, name)];
}

double lb_merge_of(const lb_merge_method *m, const lb_merge_input *in, const char *name) {
    return in->param[index_of(m, name)];
}

lb_node_id lb_merge_values(const lb_merge_job *j, lb_node_id x) {
    return lb_expr_decode(j->g, x);
}

lb_node_id lb_merge_round(const lb_merge_job *j, lb_node_id x) {
    if (j->rounding != LB_MERGE_MERGEKIT || j->work == LB_F32)
        return x;
    return lb_expr_map1(j->g, j->work == LB_F16 ? LB_MAP_ROUND_F16 : LB_MAP_ROUND_BF16, x,
                        LB_CONST(0));
}

float lb_merge_round_number(const lb_merge_job *j, double x) {
    float v = (float)x;
    if (j->rounding != LB_MERGE_MERGEKIT || j->work == LB_F32)
        return v;
    return j->work == LB_F16 ? lb_f16_to_f32(lb_f16_from_f32(v))
                             : lb_bf16_to_f32(lb_bf16_from_f32(v));
}

lb_node_id lb_merge_typed(const lb_merge_job *j, const lb_merge_input *in) {
    return lb_merge_round(j, lb_merge_values(j, in->x));
}

lb_node_id lb_merge_sum(const lb_merge_job *j, const lb_node_id *x, u32 n) {
    lb_node_id sum = x[0];
    if (j->rounding == LB_MERGE_MERGEKIT)
        sum = lb_expr_map1(j->g, LB_MAP_ADD_C, sum, LB_CONST(0)); /* -0 becomes +0 */
    for (u32 i = 1; i < n; i++)
        sum = lb_expr_map2(j->g, LB_MAP_ADD, sum, x[i], LB_CONST(0));
    return lb_merge_round(j, sum);
}

/* Every stride-th of n numbers: four sums in turn, the rest to the first. */
static float sum_by_four(const float *x, u32 stride, u32 n) {
    float part[4] = {0};
    for (u32 i = 0; i < n; i++)
        part[i < n / 4 * 4 ? i % 4 : 0] += x[(size_t)i * stride];
    return part[0] + part[1] + part[2] + part[3];
}

float lb_merge_total(lb_dtype type, const float *x, u32 n) {
    u32 lanes = type == LB_F32 ? 8 : 16, whole = n / lanes;
    float sum = 0;
    if (whole == 0)
        return sum_by_four(x, 1, n);
    for (u32 i = whole * lanes; i < n; i++)
        sum += x[i];
    for (u32 i = 0; i < lanes; i++)
        sum += sum_by_four(x + i, lanes, whole);
    return sum;
}

const lb_merge_input *lb_merge_base_of(const lb_merge_job *j) {
    for (u32 i = 0; i < j->n_in; i++)
        if (j->in[i].is_base)
            return &j->in[i];
    return NULL;
}
