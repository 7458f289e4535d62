/* SPDX-License-Identifier: Apache-2.0 */
/* One pickle, with a table that has every name and functions that take everything: the machine
 * alone. Checked: a refusal has a message with the file's name; the values that are reached are
 * whole; the cursor stands inside the text; memory is within LB_PICKLE_FACTOR. */
#include "format/pickle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DEPTH 6
#define VISITS 4096

static bool any_name(void *ctx, lb_str module, lb_str name, u32 *id) {
    (void)ctx;
    *id = (u32)(module.len + name.len);
    return module.len != 2; /* "os" */
}

static lb_status any_call(void *ctx, lb_pickle *p, u32 id, const lb_pv *args, lb_pv **out) {
    (void)ctx;
    LB_ASSERT(args->kind == LB_PV_TUPLE);
    if (id == 7)
        return lb_pickle_fail(p, LB_E_UNSUPPORTED, "%u arguments", args->n);
    *out = lb_pickle_new(p, id % 2 ? LB_PV_DICT : LB_PV_OBJECT);
    (*out)->is_ordered = id % 2;
    (*out)->u.object = id % 2 ? NULL : args;
    return LB_OK;
}

static lb_status any_id(void *ctx, lb_pickle *p, const lb_pv *id, lb_pv **out) {
    (void)ctx;
    *out = lb_pickle_new(p, LB_PV_OBJECT);
    (*out)->u.object = id;
    return LB_OK;
}

/* The values may hold themselves: a few levels, so many in all. */
static u64 walk(const lb_pv *v, u32 depth, u64 left) {
    u64 sum = 0;
    LB_ASSERT(v && v->kind <= LB_PV_OBJECT && lb_pv_kind_name(v)[0]);
    switch ((lb_pv_kind)v->kind) {
    case LB_PV_STR:
    case LB_PV_BYTES:
    case LB_PV_BIG:
        for (u32 i = 0; i < v->n; i++)
            sum += (u8)v->u.text[i];
        LB_ASSERT(sum <= 255 * (u64)v->n && v->u.text[v->n] == 0);
        return left;
    case LB_PV_OBJECT:
        return depth && left ? walk(v->u.object, depth - 1, left - 1) : left;
    case LB_PV_TUPLE:
    case LB_PV_LIST:
    case LB_PV_DICT:
        LB_ASSERT(v->n <= v->cap && (v->kind != LB_PV_DICT || v->n % 2 == 0));
        for (u32 i = 0; i < v->n && depth && left; i++)
            left = walk(v->u.items[i], depth - 1, left - 1);
        return left;
    default:
        return left;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const lb_pickle_ops ops = {NULL, any_name, any_call, any_id};
    lb_arena a = {0};
    lb_err err = {0};
    lb_pv *v;
    lb_cur c;
    lb_cur_mem(&c, "x.pkl", data, size);
    while (lb_pickle_run(&c, &ops, &a, &v, &err) == LB_OK) { /* one behind the other, as torch's */
        LB_ASSERT(c.pos <= size && data[c.pos - 1] == '.');
        (void)walk(v, DEPTH, VISITS);
    }
    LB_ASSERT(strstr(err.msg, "x.pkl") && err.code != LB_E_NOMEM && err.code != LB_E_IO);
    LB_ASSERT(a.size_bytes < 64 * LB_KIB + LB_PICKLE_FACTOR * (u64)size);
    lb_arena_deinit(&a);
    return 0;
}
