/* SPDX-License-Identifier: Apache-2.0 */
/* convert_extras.c: parts that a model works without (lb_extra): which of them the target gets, as
 * the user says or as the target's own tools do, and what is said about those it does not. */
#include "ops/convert_internal.h"
#include <stdio.h>

static const char *world_name(lb_world w) {
    return w == LB_WORLD_HF ? "Hugging Face" : w == LB_WORLD_MLX ? "MLX" : "GGUF";
}

lb_status lb_conv_choose_extras(lb_conv *c, lb_world to, lb_err *err) {
    lb_ctensors *t = &c->canon;
    t->left_extras = 0;
    for (u32 i = LB_EXTRA_NONE + 1; i < LB_EXTRA_COUNT; i++) {
        lb_extra e = (lb_extra)i;
        lb_keep keep = (lb_keep)c->o->keep[e];
        if (keep == LB_KEEP_KEEP && t->n_extra[e] && !lb_arch_holds_extra(t->arch, e, t->world, to))
            return lb_fail(err, LB_E_UNSUPPORTED,
                           "%s keep: the %s part of the model has no place in %s", lb_extra_flag(e),
                           lb_extra_name(e), world_name(to));
        if (keep == LB_KEEP_DROP ||
            (keep == LB_KEEP_AUTO && !lb_arch_keeps_extra(t->arch, e, t->world, to)))
            t->left_extras |= 1u << e;
        t->text_only |= keep == LB_KEEP_DROP && lb_extra_is_beside(e);
    }
    if (c->o->keep[LB_EXTRA_MTP] == LB_KEEP_DROP && !t->arch)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "--mtp drop: which tensors are of multi-token prediction is not known: %s",
                       t->arch_err.msg);
    t->text_only = t->hp.outer && to == LB_WORLD_HF && (t->text_only || t->world != to);
    return LB_OK;
}

static lb_world target(const lb_conv *c) {
    return c->model.format == LB_FORMAT_GGUF  ? LB_WORLD_GGUF
           : c->model.format == LB_FORMAT_MLX ? LB_WORLD_MLX
                                              : LB_WORLD_HF;
}

static void say_extra(lb_conv *c, lb_extra e, u64 n, u64 elems) {
    char why[64] = "the target has no place for them";
    const char *flag = lb_extra_flag(e);
    if (c->o->keep[e] == LB_KEEP_DROP)
        (void)snprintf(why, sizeof why, "%s drop", flag);
    else if (lb_arch_holds_extra(c->canon.arch, e, c->canon.world, target(c)))
        (void)snprintf(why, sizeof why, "as its own tools do; %s keep: not so", flag);
    lb_conv_remark(c, "left out: %s: %llu tensors, %llu parameters (%s)", lb_extra_name(e),
                   (unsigned long long)n, (unsigned long long)elems, why);
}

/* n, elems: by lb_extra. What the user has dropped is counted where there is nothing, too. */
static void say_extras(lb_conv *c, const u64 *n, const u64 *elems) {
    for (u32 e = LB_EXTRA_NONE + 1; e < LB_EXTRA_COUNT; e++)
        if (c->canon.left_extras & 1u << e && (n[e] || (e == LB_EXTRA_MTP && c->o->keep[e])))
            say_extra(c, (lb_extra)e, n[e], elems[e]);
}

static void count(const lb_conv *c, const lb_ctensor *t, u64 *n, u64 *elems) {
    u64 k = 0;
    if (t->first_row && lb_shape_elems(&c->src->weights[t->weight].shape, &k))
        elems[t->extra] += k;
    n[t->extra] += t->first_row;
}

lb_status lb_conv_say_left_out(lb_conv *c, const lb_assembly *a, const char *why, lb_err *err) {
    u64 n[LB_EXTRA_COUNT] = {0}, elems[LB_EXTRA_COUNT] = {0};
    for (u64 i = 0; i < a->n_left_out; i++) {
        const lb_ctensor *t = &c->canon.tensors[a->left_out[i]];
        lb_str name = c->src->weights[t->weight].name;
        if (c->canon.left_extras & 1u << t->extra)
            count(c, t, n, elems);
        else if (c->o->keep[t->extra] == LB_KEEP_KEEP)
            return lb_fail(err, LB_E_UNSUPPORTED, "%s keep: tensor '%.*s' has no place in %s",
                           lb_extra_flag((lb_extra)t->extra), LB_FMT(name), world_name(target(c)));
        else
            lb_conv_remark(c, "left out: %.*s (%s)", LB_FMT(name), why);
    }
    say_extras(c, n, elems);
    return LB_OK;
}

lb_status lb_conv_drop_extras(lb_conv *c, lb_err *err) {
    bool any = false;
    for (u32 e = 0; e < LB_EXTRA_COUNT; e++)
        any |= c->o->keep[e] == LB_KEEP_DROP;
    if (!any)
        return LB_OK;
    LB_TRY(lb_ctensors_build(c->plan, 0, &c->canon, err));
    LB_TRY(lb_conv_choose_extras(c, c->canon.world, err));
    for (u64 i = 0; i < c->src->n_weights && c->canon.text_only; i++)
        if (c->src->weights[i].enc.kind != LB_ENC_PLAIN &&
            c->src->weights[i].enc.kind != LB_ENC_VIEW)
            return lb_fail(err, LB_E_UNSUPPORTED,
                           "--vision drop: the config says by their names how tensors are "
                           "quantized, and the names change: give --dtype bf16 as well");
    return LB_OK;
}

lb_status lb_conv_extras_of(lb_conv *c, u8 **out, lb_err *err) {
    u64 n[LB_EXTRA_COUNT] = {0}, elems[LB_EXTRA_COUNT] = {0};
    *out = lb_arena_new(c->perm, u8, c->src->n_tensors + 1);
    if (!*out)
        return lb_fail(err, LB_E_NOMEM, "out of memory for the list of tensors");
    for (u64 i = 0; i < c->canon.n_tensors && c->canon.left_extras; i++) {
        const lb_ctensor *t = &c->canon.tensors[i];
        const lb_weight *w = &c->src->weights[t->weight];
        for (u32 p = 0; p < w->n_parts; p++)
            (*out)[w->part[p]] = t->extra;
        count(c, t, n, elems);
    }
    say_extras(c, n, elems);
    return LB_OK;
}

lb_status lb_conv_config_without(lb_conv *c, lb_str *config, lb_err *err) {
    lb_buf b = {0};
    if (c->o->keep[LB_EXTRA_MTP] != LB_KEEP_DROP || !c->canon.arch || config->len == 0)
        return LB_OK;
    lb_status st = lb_arch_config_without(c->canon.arch, LB_EXTRA_MTP, *config, &b, err);
    if (st == LB_OK) {
        *config = lb_arena_str(c->perm, lb_buf_str(&b));
        if (!config->ptr)
            st = lb_fail(err, LB_E_NOMEM, "config.json: out of memory");
    }
    lb_buf_deinit(&b);
    return st;
}
