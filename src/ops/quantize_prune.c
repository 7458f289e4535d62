/* SPDX-License-Identifier: Apache-2.0 */
/* quantize_prune.c: --prune-layers: layers that are left out, the others numbered anew.
 *
 * Names, block_count and the decisions of recipes are llama-quantize's (remap_layer of
 * src/llama-quant.cpp, llama-cpp-python 0.3.36): rules still ask for the model's own number of
 * layers, importance is found by a tensor's own name. What it does not do, and a reader of the file
 * needs: keys with a value a layer lose those of the layers that go. */
#include "ops/quantize_internal.h"
#include <stdlib.h>

#define LAYERS_MAX 65536

static lb_status refuse_list(const char *list, lb_err *err) {
    return lb_fail(err, LB_E_USAGE,
                   "--prune-layers %s: write the numbers of layers, as in --prune-layers 3,17,18",
                   list);
}

/* Sets which[] for the listed ones. */
static lb_status read_list(lb_quantizer *q, u64 n_layers, lb_err *err) {
    lb_str rest = lb_str_c(q->o->prune);
    u64 n_left = n_layers;
    for (bool more = true; more;) {
        size_t at = rest.len;
        u64 layer = 0;
        more = lb_str_find(rest, LB_STR(","), &at);
        if (!lb_str_to_u64(lb_str_sub(rest, 0, at), &layer))
            return refuse_list(q->o->prune, err);
        if (layer >= n_layers)
            return lb_fail(err, LB_E_USAGE,
                           "--prune-layers: there is no layer %llu: the model has %llu, from 0 on",
                           (unsigned long long)layer, (unsigned long long)n_layers);
        n_left -= !q->pruned[layer];
        q->pruned[layer] = true;
        rest = lb_str_sub(rest, LB_MIN(at + 1, rest.len), rest.len);
    }
    if (n_left == 0)
        return lb_fail(err, LB_E_USAGE, "--prune-layers: no layer would be left");
    q->n_layers = n_layers;
    q->n_layers_left = n_left;
    return LB_OK;
}

/* "blk.12.attn_q.weight": 12, and where the rest begins. */
static bool layer_of(lb_str name, u64 *layer, size_t *rest) {
    lb_str s = LB_STR("blk.");
    size_t dot;
    if (!lb_str_starts(name, s) ||
        !lb_str_find(lb_str_sub(name, s.len, name.len), LB_STR("."), &dot))
        return false;
    *rest = s.len + dot;
    return lb_str_to_u64(lb_str_sub(name, s.len, *rest), layer);
}

static bool has_other_layers(lb_str name) {
    size_t at;
    return lb_str_find(name, LB_STR("blk."), &at) && at > 0;
}

lb_status lb_quantize_prune(lb_conv *c, const lb_recipe_model *model, lb_err *err) {
    lb_quantizer *q = c->quantizer;
    if (model->n_layers > LAYERS_MAX)
        return lb_fail(err, LB_E_LIMIT, "--prune-layers: at most %d layers", LAYERS_MAX);
    if (model->n_mtp)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "--prune-layers: %llu layers are of multi-token prediction: leave them out "
                       "first, with --mtp drop",
                       (unsigned long long)model->n_mtp);
    q->pruned = lb_arena_new(c->perm, bool, model->n_layers + 1);
    if (!q->pruned)
        return lb_fail(err, LB_E_NOMEM, "out of memory for layers");
    memset(q->pruned, 0, model->n_layers + 1);
    LB_TRY(read_list(q, model->n_layers, err));
    for (u64 i = 0; i < c->model.n_tensors; i++)
        if (has_other_layers(c->model.tensors[i].name))
            return lb_fail(err, LB_E_UNSUPPORTED,
                           "--prune-layers: '%.*s' is of layers beside the model's own",
                           LB_FMT(c->model.tensors[i].name));
    return LB_OK;
}

lb_status lb_quantize_pruned_name(lb_conv *c, lb_str name, lb_str *out, lb_err *err) {
    const lb_quantizer *q = c->quantizer;
    u64 layer, new_layer = 0;
    size_t rest;
    *out = name;
    if (!q->pruned || !layer_of(name, &layer, &rest) || layer >= q->n_layers)
        return LB_OK;
    for (u64 i = 0; i < layer; i++)
        new_layer += !q->pruned[i];
    *out = LB_STR_NONE;
    if (q->pruned[layer])
        return LB_OK;
    *out = lb_arena_printf(c->perm, "blk.%llu%.*s", (unsigned long long)new_layer,
                           (int)(name.len - rest), name.ptr + rest);
    return out->ptr ? LB_OK : lb_fail(err, LB_E_NOMEM, "out of memory for names");
}

/* Rotary sections are no layers, though there may be as many. */
static bool is_of_layers(const lb_quantizer *q, const lb_gguf_kv *kv, lb_str arch) {
    return kv->type == LB_GGUF_ARRAY && kv->n == q->n_layers && kv->elem != LB_GGUF_STR &&
           lb_str_starts(kv->key, arch) && kv->key.len > arch.len && kv->key.ptr[arch.len] == '.' &&
           !lb_str_ends(kv->key, LB_STR("rope.dimension_sections"));
}

lb_status lb_quantize_pruned_key(lb_conv *c, const lb_gguf_kv *kv, lb_str arch, lb_gguf_meta *to,
                                 lb_err *err) {
    const lb_quantizer *q = c->quantizer;
    if (!q->pruned)
        return lb_meta_share(to, kv, err);
    if (lb_str_starts(kv->key, LB_STR("lbrx.hf."))) /* of the model with all its layers */
        return LB_OK;
    if (!is_of_layers(q, kv, arch))
        return lb_meta_share(to, kv, err);
    size_t size = lb_gguf_type_bytes(kv->elem), n = 0;
    u8 *left = lb_arena_new(c->perm, u8, kv->n * size);
    if (!left)
        return lb_fail(err, LB_E_NOMEM, "out of memory for metadata");
    for (u64 i = 0; i < kv->n; i++)
        if (!q->pruned[i])
            memcpy(left + n++ * size, (const u8 *)kv->v.array + i * size, size);
    lb_gguf_kv cut = *kv;
    cut.n = n;
    cut.v.array = left;
    return lb_meta_share(to, &cut, err);
}
