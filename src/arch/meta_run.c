/* SPDX-License-Identifier: Apache-2.0 */
/* meta_run.c: metadata that only an evaluation of a folder reads, beside those of meta_rows.c. GGUF
 * has no keys for it: such a config becomes none, or one whose readers assume something else. */
#include "arch/meta_writer.h"
#include <math.h>

typedef lb_meta_writer writer;

static bool is_set(const lb_json *v) {
    return v && v->type != LB_JNULL;
}

static lb_status put_f32(const writer *w, const char *key, double v, lb_err *err) {
    char buf[LB_META_KEY_MAX];
    return lb_meta_set_f32(w->out, lb_meta_full_key(w, key, buf), (float)v, err);
}

static lb_status put_u32(const writer *w, const char *key, u64 v, lb_err *err) {
    char buf[LB_META_KEY_MAX];
    if (v > UINT32_MAX)
        return lb_fail(err, LB_E_FORMAT, "config.json: %llu does not fit '%s', 32 bits wide",
                       (unsigned long long)v, key);
    return lb_meta_set_u32(w->out, lb_meta_full_key(w, key, buf), (u32)v, err);
}

static lb_status put_str(const writer *w, const char *key, const char *v, lb_err *err) {
    char buf[LB_META_KEY_MAX];
    return lb_meta_set_str(w->out, lb_meta_full_key(w, key, buf), lb_str_c(v), err);
}

/* ---- values ---- */

lb_status lb_meta_run_value(const writer *w, const lb_arch_kv *row, const lb_json *v, lb_err *err) {
    lb_json own = {.type = LB_JNUMBER};
    if (row->fallback && !is_set(v)) {
        own.text = lb_str_c(row->fallback);
        v = &own;
    }
    return !w->run || !is_set(v) ? LB_OK : lb_meta_put_value(w, row, v, err);
}

lb_status lb_meta_run_scale(const writer *w, const lb_arch_kv *row, const lb_json *v, lb_err *err) {
    double x;
    if (!w->run || !is_set(v))
        return LB_OK;
    if (!lb_json_as_f64(v, &x) || !(x > 0))
        return lb_fail(err, LB_E_FORMAT, "config.json: '%s' is not a number above 0", row->names);
    return put_f32(w, row->key, 1 / sqrt(x), err);
}

/* ---- layers ---- */

/* Which layers have a window. */
static lb_status put_slides(const writer *w, const lb_arch_kv *row, u64 n, u8 *slides,
                            lb_err *err) {
    const lb_json *list = lb_arch_pick(w->n, "layer_types");
    const lb_json *type = list && list->type == LB_JARRAY && list->n == n ? list->first : NULL;
    bool all = !row->fallback, listed = type != NULL;
    u64 limit = 0;
    lb_str kind;
    char buf[LB_META_KEY_MAX];
    if (!lb_json_as_u64(lb_arch_pick(w->n, "max_window_layers"), &limit) &&
        (!row->absent || !lb_str_to_u64(lb_str_c(row->absent), &limit)))
        limit = 0;
    for (u64 i = 0; i < n; i++) {
        bool by_rule =
            all || (strcmp(row->fallback, "from") == 0 ? i >= limit : i % 2 == 0 && i < limit);
        slides[i] = listed && !all
                        ? lb_json_as_str(type, &kind) && lb_str_eq_c(kind, "sliding_attention")
                        : by_rule;
        type = listed ? type->next : NULL;
    }
    return lb_meta_set_array(w->out, lb_meta_full_key(w, "attention.sliding_window_pattern", buf),
                             LB_GGUF_BOOL, n, slides, err);
}

lb_status lb_meta_run_window(const writer *w, const lb_arch_kv *row, const lb_json *v,
                             lb_err *err) {
    lb_arena scratch = {.max_bytes = LB_MIB};
    bool used = true;
    u64 n = 0, window;
    if (!w->run || !is_set(v) ||
        (row->of && (!lb_json_as_bool(lb_arch_pick(w->n, row->of), &used) || !used)))
        return LB_OK;
    if (!lb_json_as_u64(v, &window))
        return lb_fail(err, LB_E_FORMAT, "config.json: '%s' is not a whole number of 0 or more",
                       row->names);
    LB_TRY(lb_arch_pick_u64(w->n, "num_hidden_layers", &n, err));
    u8 *slides = n <= LB_LAYERS_MAX ? lb_arena_new(&scratch, u8, n) : NULL;
    lb_status st = slides ? put_slides(w, row, n, slides, err)
                          : lb_fail(err, LB_E_LIMIT, "config.json: too many layers");
    lb_arena_deinit(&scratch);
    return st == LB_OK ? put_u32(w, row->key, window, err) : st;
}

lb_status lb_meta_run_layers(const writer *w, const lb_arch_kv *row, const lb_json *v,
                             lb_err *err) {
    lb_arena scratch = {.max_bytes = LB_MIB};
    char buf[LB_META_KEY_MAX];
    u64 n = 0, number;
    lb_str text;
    u8 *usual = v->n <= LB_LAYERS_MAX ? lb_arena_new(&scratch, u8, v->n) : NULL;
    if (!usual)
        return lb_fail(err, LB_E_LIMIT, "config.json: '%s' has too many layers", row->names);
    for (const lb_json *e = v->first; e; e = e->next)
        usual[n++] = lb_json_as_str(e, &text) ? !lb_str_eq_c(text, "full_attention")
                                              : lb_json_as_u64(e, &number) && number != 0;
    lb_status st =
        lb_meta_set_array(w->out, lb_meta_full_key(w, row->key, buf), LB_GGUF_BOOL, n, usual, err);
    lb_arena_deinit(&scratch);
    return st;
}

/* ---- rope ---- */

/* What cosines are scaled by and whether limits are rounded, as transformers has it; readers of
 * GGUF take the factor's own scale and round. */
lb_status lb_meta_run_yarn(const writer *w, lb_err *err) {
    char buf[LB_META_KEY_MAX];
    double one = 0, all = 0, own;
    bool round = true;
    lb_json_as_bool(lb_arch_pick(w->n, "@truncate"), &round);
    LB_TRY(lb_meta_set_bool(w->out, lb_meta_full_key(w, "rope.scaling.yarn_truncate", buf), round,
                            err));
    if (lb_json_as_f64(lb_arch_pick(w->n, "@attention_factor"), &own))
        return put_f32(w, "rope.scaling.yarn_mscale", own, err);
    lb_json_as_f64(lb_arch_pick(w->n, "@mscale"), &one);
    lb_json_as_f64(lb_arch_pick(w->n, "@mscale_all_dim"), &all);
    if (one == 0 || all == 0) { /* only both together count */
        one = 1;
        all = 0;
    }
    LB_TRY(put_f32(w, "rope.scaling.yarn_mscale_one", one, err));
    return put_f32(w, "rope.scaling.yarn_mscale_all", all, err);
}

/* Only changes what lies beyond the trained context, where readers of GGUF do without. */
lb_status lb_meta_run_dynamic(const writer *w, const lb_json *factor, lb_err *err) {
    double f;
    if (!w->run || is_set(lb_arch_pick(w->n, "@alpha")))
        return LB_OK;
    if (!lb_json_as_f64(factor, &f))
        return lb_fail(err, LB_E_FORMAT, "config.json: 'rope_parameters.factor' is not a number");
    LB_TRY(put_str(w, "rope.scaling.type", "dynamic", err));
    return put_f32(w, "rope.scaling.factor", f, err);
}

/* Factors of frequencies as lists, where the family's GGUF has no tensor for them. */
static lb_status put_factors(const writer *w, lb_str type, lb_arena *scratch, lb_err *err) {
    static const struct {
        const char *tensor, *key;
    } lists[] = {{"rope_freqs.weight", "rope.scaling.freq_factors"},
                 {"rope_factors_long.weight", "rope.scaling.long_factors"},
                 {"rope_factors_short.weight", "rope.scaling.short_factors"}};
    lb_arch_made_tensor made[LB_ARCH_MADE_MAX];
    char buf[LB_META_KEY_MAX];
    u32 n = 0;
    LB_TRY(lb_arch_made_rope(w->arch, w->n, LB_ARCH_ROPE_FREQS | LB_ARCH_LONGROPE, scratch, made,
                             &n, err));
    if (!n)
        return lb_fail(err, LB_E_UNSUPPORTED, "config.json: rope type '%.*s' is not known for '%s'",
                       LB_FMT(lb_str_sub(type, 0, 40)), w->arch->family);
    for (u32 i = 0; i < n; i++)
        for (size_t k = 0; k < LB_LEN(lists); k++)
            if (lb_str_eq_c(made[i].name, lists[k].tensor))
                LB_TRY(lb_meta_set_array(w->out, lb_meta_full_key(w, lists[k].key, buf),
                                         LB_GGUF_F32, made[i].shape.dim[0], made[i].values, err));
    return LB_OK;
}

lb_status lb_meta_run_rope(const writer *w, lb_str type, lb_err *err) {
    static const lb_arch_kv attn = {.key = "rope.scaling.attn_factor"};
    lb_arena scratch = {.max_bytes = 64 * LB_MIB};
    u64 orig;
    lb_status st = put_factors(w, type, &scratch, err);
    lb_arena_deinit(&scratch);
    if (st != LB_OK || !lb_str_eq_c(type, "longrope"))
        return st == LB_OK ? put_str(w, "rope.scaling.type", "none", err) : st;
    LB_TRY(lb_arch_pick_u64(w->n, "@original_max_position_embeddings", &orig, err));
    LB_TRY(put_u32(w, "rope.scaling.original_context_length", orig, err));
    LB_TRY(put_str(w, "rope.scaling.type", "longrope", err));
    return lb_meta_put_mscale(w, &attn, NULL, err);
}

/* ---- of any family ---- */

static lb_status put_activation(const writer *w, lb_err *err) {
    static const struct {
        const char *name;
        lb_act_fn fn;
    } known[] = {{"silu", LB_ACT_SILU},
                 {"swish", LB_ACT_SILU},
                 {"gelu_pytorch_tanh", LB_ACT_GELU},
                 {"gelu_new", LB_ACT_GELU},
                 {"gelu_fast", LB_ACT_GELU},
                 {"gelu_python_tanh", LB_ACT_GELU},
                 {"gelu", LB_ACT_GELU_ERF},
                 {"gelu_python", LB_ACT_GELU_ERF},
                 {"relu2", LB_ACT_RELU2}};
    static const char *const others[] = {"hidden_activation", "activation_function"};
    const lb_act_fn usual = (lb_act_fn)w->arch->graph.act;
    const char *key = "hidden_act"; /* or the field that the class has instead */
    lb_str name;
    size_t k = 0;
    for (size_t i = 0; w->run && i < LB_LEN(others); i++)
        if (lb_arch_has_field(w->arch, others[i]))
            key = others[i];
    const lb_json *v = lb_arch_pick(w->n, key);
    if (!is_set(v) || usual == LB_ACT_OAI || (!w->run && usual != LB_ACT_SILU))
        return LB_OK;
    if (!lb_json_as_str(v, &name))
        return lb_fail(err, LB_E_FORMAT, "config.json: '%s' is not a name", key);
    if ((w->arch->graph.flags & LB_GRAPH_GELU_TANH) && lb_str_eq_c(name, "gelu"))
        return LB_OK;
    while (k < LB_LEN(known) && !lb_str_eq_c(name, known[k].name))
        k++;
    if (k < LB_LEN(known) && known[k].fn == usual)
        return LB_OK;
    if (!w->run)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "config.json: '%s' is not silu: the GGUF of '%s' has no key for another",
                       key, w->arch->family);
    return k < LB_LEN(known) ? put_u32(w, "feed_forward.activation", known[k].fn, err)
                             : lb_fail(err, LB_E_UNSUPPORTED,
                                       "config.json: the activation '%.*s' is not known here",
                                       LB_FMT(lb_str_sub(name, 0, 40)));
}

lb_status lb_meta_run_rest(const writer *w, lb_err *err) {
    lb_str method;
    LB_TRY(put_activation(w, err));
    if (w->run && lb_json_as_str(lb_arch_pick(w->n, "topk_method"), &method) &&
        lb_str_eq_c(method, "greedy"))
        return put_u32(w, "expert_group_count", 0, err);
    return LB_OK;
}
