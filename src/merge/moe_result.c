/* SPDX-License-Identifier: Apache-2.0 */
/* moe_result.c: see moe_result.h. */
#include "merge/moe_result.h"

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for the result's config");
}

/* ---- names ---- */

static const lb_moe_form forms[] = {
    [LB_MOE_MIXTRAL] = {.family = "mixtral",
                        .module = "block_sparse_moe",
                        .parts = {"w1", "w3", "w2"}},
    [LB_MOE_DEEPSEEK] = {.family = "mixtral", /* the tables have no deepseek */
                         .module = "mlp",
                         .parts = {"gate_proj", "up_proj", "down_proj"},
                         .shared = "shared_experts",
                         .plain_heads = true},
    [LB_MOE_QWEN] = {.family = "qwen2_moe",
                     .module = "mlp",
                     .parts = {"gate_proj", "up_proj", "down_proj"},
                     .shared = "shared_expert",
                     .shared_gate = true,
                     .qkv_bias = true},
    [LB_MOE_QWEN3] = {.family = "qwen3_moe",
                      .module = "mlp",
                      .parts = {"gate_proj", "up_proj", "down_proj"}},
};

const lb_moe_form *lb_moe_form_of(lb_moe_kind k) {
    return &forms[k];
}

lb_str lb_moe_source_name(u32 layer, lb_moe_part p, lb_arena *perm) {
    static const char *const parts[] = {"gate", "up", "down"};
    return lb_arena_printf(perm, "model.layers.%u.mlp.%s_proj.weight", layer, parts[p]);
}

lb_str lb_moe_expert_name(const lb_moe_form *f, u32 layer, u32 expert, lb_moe_part p,
                          lb_arena *perm) {
    return lb_arena_printf(perm, "model.layers.%u.%s.experts.%u.%s.weight", layer, f->module,
                           expert, f->parts[p]);
}

lb_str lb_moe_shared_name(const lb_moe_form *f, u32 layer, lb_moe_part p, lb_arena *perm) {
    return lb_arena_printf(perm, "model.layers.%u.%s.%s.%s.weight", layer, f->module, f->shared,
                           f->parts[p]);
}

lb_str lb_moe_router_name(const lb_moe_form *f, u32 layer, lb_arena *perm) {
    return lb_arena_printf(perm, "model.layers.%u.%s.gate.weight", layer, f->module);
}

lb_str lb_moe_shared_gate_name(const lb_moe_form *f, u32 layer, lb_arena *perm) {
    return lb_arena_printf(perm, "model.layers.%u.%s.%s_gate.weight", layer, f->module, f->shared);
}

/* ---- config.json ---- */

#define REMOTE "deepseek-ai/deepseek-moe-16b-base--"

static const struct {
    const char *n_experts, *n_shared; /* keys; NULL: none */
    const char *sizes[2];             /* keys of an expert's size beside intermediate_size */
    const char *members;              /* set, whatever the base says */
} keys[] = {
    [LB_MOE_MIXTRAL] = {.n_experts = "num_local_experts",
                        .members =
                            "{\"architectures\": [\"MixtralForCausalLM\"],"
                            "\"model_type\": \"mixtral\", \"sliding_window\": null,"
                            "\"output_router_logits\": false,"
                            "\"router_aux_loss_coef\": 0.001, \"router_jitter_noise\": 0.0}"},
    /* The code that auto_map names is the model's maker's: transformers has no class of it. */
    [LB_MOE_DEEPSEEK] = {.n_experts = "n_routed_experts",
                         .n_shared = "n_shared_experts",
                         .sizes = {"moe_intermediate_size"},
                         .members =
                             "{\"architectures\": [\"DeepseekForCausalLM\"],"
                             "\"model_type\": \"deepseek\", \"first_k_dense_replace\": 0,"
                             "\"moe_layer_freq\": 1, \"scoring_func\": \"softmax\","
                             "\"norm_topk_prob\": true, \"auto_map\": {"
                             "\"AutoConfig\": \"" REMOTE "configuration_deepseek.DeepseekConfig\","
                             "\"AutoModel\": \"" REMOTE "modeling_deepseek.DeepseekModel\","
                             "\"AutoModelForCausalLM\": \"" REMOTE
                             "modeling_deepseek.DeepseekForCausalLM\"}}"},
    [LB_MOE_QWEN] = {.n_experts = "num_experts",
                     .sizes = {"moe_intermediate_size", "shared_expert_intermediate_size"},
                     .members = "{\"architectures\": [\"Qwen2MoeForCausalLM\"],"
                                "\"model_type\": \"qwen2_moe\", \"decoder_sparse_step\": 1,"
                                "\"mlp_only_layers\": [], \"norm_topk_prob\": true,"
                                "\"sliding_window\": null, \"use_sliding_window\": false,"
                                "\"qkv_bias\": true, \"output_router_logits\": false,"
                                "\"router_aux_loss_coef\": 0.001}"},
    [LB_MOE_QWEN3] = {.n_experts = "num_experts",
                      .sizes = {"moe_intermediate_size"},
                      .members = "{\"architectures\": [\"Qwen3MoeForCausalLM\"],"
                                 "\"model_type\": \"qwen3_moe\", \"decoder_sparse_step\": 1,"
                                 "\"mlp_only_layers\": [], \"norm_topk_prob\": true,"
                                 "\"output_router_logits\": false,"
                                 "\"router_aux_loss_coef\": 0.001}"},
};

static bool set_u64(lb_json *config, const char *key, u64 v, lb_arena *s) {
    return !key || lb_json_set(s, config, key, lb_json_new_u64(s, v));
}

static bool set_sizes(lb_json *config, const lb_moe_config *c, lb_moe_kind k, const lb_moe_facts *f,
                      lb_arena *s) {
    bool ok = set_u64(config, keys[k].n_experts, c->n_experts, s) &&
              set_u64(config, "num_experts_per_tok", c->experts_per_token, s) &&
              set_u64(config, "intermediate_size", f->n_ff, s);
    for (u32 i = 0; i < LB_LEN(keys[k].sizes); i++)
        ok = ok && set_u64(config, keys[k].sizes[i], f->n_ff, s);
    if (ok && keys[k].n_shared)
        ok = lb_json_set(s, config, keys[k].n_shared,
                         c->n_shared ? lb_json_new_u64(s, c->n_shared) : lb_json_new_null(s));
    return ok;
}

/* No layer has a window any more. */
static bool clear_windows(lb_json *config, lb_arena *s) {
    lb_json *types = lb_json_get(config, "layer_types");
    const lb_json *window = lb_json_get(config, "sliding_window");
    if (!types || types->type != LB_JARRAY || !window || window->type != LB_JNULL)
        return true;
    lb_json *fresh = lb_json_new_array(s);
    for (u64 i = 0; fresh && i < types->n; i++)
        if (!lb_json_push(fresh, lb_json_new_str(s, LB_STR("full_attention"))))
            return false;
    return fresh && lb_json_set(s, config, "layer_types", fresh);
}

static bool set_dtype(lb_json *config, lb_str dtype, lb_arena *s) {
    const char *key = lb_json_get(config, "dtype") ? "dtype" : "torch_dtype";
    if (lb_json_get(config, "dtype"))
        lb_json_remove(config, "torch_dtype");
    return lb_json_set(s, config, key, lb_json_new_str(s, dtype));
}

lb_status lb_moe_config_json(const lb_moe_config *c, lb_moe_kind k, const lb_moe_facts *facts,
                             lb_json *full, lb_arena *perm, lb_str *out, lb_err *err) {
    /* Of the base alone: its code, its codes, its place. */
    static const char *const gone[] = {"auto_map", "quantization_config", "quantization",
                                       "_name_or_path"};
    lb_json *members;
    LB_TRY(lb_json_parse(lb_str_c(keys[k].members), "a table", perm, &members, err));
    for (u32 i = 0; i < LB_LEN(gone); i++)
        lb_json_remove(full, gone[i]);
    for (const lb_json *m = members->first; m; m = m->next) {
        lb_str key = lb_arena_str(perm, m->key);
        if (!key.ptr || !lb_json_set(perm, full, key.ptr, lb_json_copy(perm, m)))
            return oom(err);
    }
    if (!set_sizes(full, c, k, facts, perm) || !clear_windows(full, perm) ||
        !set_dtype(full, facts->dtype, perm))
        return oom(err);
    lb_json_sort_keys(full);
    return lb_json_file(full, perm, out, err);
}

/* ---- README.md ---- */

lb_status lb_moe_card(lb_str name, const lb_moe_config *c, lb_moe_kind k, lb_str text, lb_buf *b,
                      lb_err *err) {
    const lb_merge_ref *models = c->refs.models;
    lb_buf_put_c(b, "---\nbase_model:\n");
    for (u32 i = 0; i < c->refs.n_models; i++)
        lb_buf_printf(b, "- %.*s\n", LB_FMT(models[i].path));
    lb_buf_put_c(b, "library_name: transformers\ntags:\n- moe\n- merge\n- lbrx\n---\n");
    lb_buf_printf(b,
                  "# %.*s\n\nThis is a mixture of experts (%s), made with lbrx %s: attention, "
                  "norms and vocabulary of %.*s, and as experts the feed-forward layers of\n\n",
                  LB_FMT(name), lb_moe_kind_name(k), LB_VERSION, LB_FMT(models[0].text));
    for (u32 i = 0; i < c->n_experts; i++)
        lb_buf_printf(b, "- %.*s\n", LB_FMT(models[c->experts[i].model].text));
    for (u32 i = 0; i < c->n_shared; i++)
        lb_buf_printf(b, "- %.*s, shared by all tokens\n", LB_FMT(models[c->shared[i].model].text));
    lb_buf_printf(b, "\nRouters: gate_mode %s; %llu experts a token.\n\n## File\n\n```yaml\n",
                  lb_moe_gate_name(c->gate), (unsigned long long)c->experts_per_token);
    lb_buf_put_str(b, text);
    if (!lb_str_ends(text, LB_STR("\n")))
        lb_buf_put_c(b, "\n");
    lb_buf_put_c(b, "```\n");
    return lb_buf_status(b, err);
}
