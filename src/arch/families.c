/* SPDX-License-Identifier: Apache-2.0 */
/* families.c: look-ups in the list of families (families.def), and the rows of metadata that all of
 * them share.
 *
 * Where one GGUF architecture is written by several families (llama: llama, mistral and mixtral),
 * the first in the list that has experts, if the file has, reads it back; one with a key of its own
 * goes before it. */
#include "arch/arch_internal.h"
#include <stdio.h>

static const lb_arch *const families[] = {
#define LB_FAMILY(name) &lb_arch_##name,
#include "arch/families.def"
#undef LB_FAMILY
};

/* Classes that one would take for a family above but that need more than its table says. */
static const struct {
    const char *class_name, *why;
} refused[] = {
    {"Phi4ForCausalLMV", "phi3 with vision: only text models of it are supported"},
    {"LlavaStableLMEpochForCausalLM", "stablelm with vision: only text models of it are supported"},
    {"ChatGLMModel",
     "the class of glm before transformers had it: only GlmForCausalLM is supported"},
    {"LlamaForCausalLMEagle3", "an EAGLE-3 draft model is not a model of its own"},
    {"Eagle3LlamaForCausalLM", "an EAGLE-3 draft model is not a model of its own"},
    {"Eagle3Speculator", "an EAGLE-3 draft model is not a model of its own"},
    {"Eagle3DraftModel", "an EAGLE-3 draft model is not a model of its own"},
};

/* conversion/base.py, TextModel.set_gguf_parameters; types: gguf-py/gguf/gguf_writer.py. */
const lb_arch_kv lb_arch_common_kv[] = {
    {.key = "block_count",
     .type = LB_GGUF_U32,
     .names = "n_layers|num_hidden_layers|n_layer|num_layers",
     .hf = "num_hidden_layers",
     .flags = LB_KVF_REQUIRED | LB_KVF_BLOCKS},
    {.key = "context_length",
     .type = LB_GGUF_U32,
     .names = "max_position_embeddings|n_ctx|n_positions|max_length|max_sequence_length|"
              "model_max_length",
     .hf = "max_position_embeddings"},
    {.key = "embedding_length",
     .type = LB_GGUF_U32,
     .names = "hidden_size|n_embd|dim",
     .hf = "hidden_size"},
    {.key = "feed_forward_length",
     .type = LB_GGUF_U32,
     .names = "prefix_dense_intermediate_size|dense_intermediate_size|intermediate_size|n_inner|"
              "hidden_dim",
     .hf = "intermediate_size"},
    {.key = "attention.head_count",
     .type = LB_GGUF_U32,
     .names = "num_attention_heads|n_head|n_heads",
     .hf = "num_attention_heads"},
    {.key = "attention.head_count_kv",
     .type = LB_GGUF_U32,
     .names = "num_key_value_heads|n_kv_heads",
     .hf = "num_key_value_heads"},
    {.op = LB_KV_FALSE, .key = "attention.causal", .type = LB_GGUF_BOOL, .names = "is_causal"},
    {.op = LB_KV_ROPE, .key = "rope.scaling"},
    {.op = LB_KV_SECTIONS, .key = "rope.dimension_sections", .names = "@mrope_section"},
    {.key = "rope.freq_base",
     .type = LB_GGUF_F32,
     .names = "@rope_theta",
     .hf = "rope_theta",
     .absent = "10000.0"},
    {.key = "rope.freq_base_swa",
     .type = LB_GGUF_F32,
     .names = "%rope_theta",
     .hf = "rope_local_base_freq",
     .absent = "10000.0",
     .flags = LB_KVF_ROPE_LOCAL},
    {.key = "attention.layer_norm_rms_epsilon",
     .type = LB_GGUF_F32,
     .names = "rms_norm_eps|norm_eps",
     .hf = "rms_norm_eps"},
    {.key = "attention.layer_norm_epsilon",
     .type = LB_GGUF_F32,
     .names = "layer_norm_eps|layer_norm_epsilon|norm_epsilon",
     .hf = "layer_norm_eps"},
    {.key = "expert_count",
     .type = LB_GGUF_U32,
     .names = "num_local_experts|num_experts|n_routed_experts"},
    {.key = "expert_used_count",
     .type = LB_GGUF_U32,
     .names = "num_experts_per_tok|num_experts_per_token|top_k_experts"},
    {.key = "expert_group_count", .type = LB_GGUF_U32, .names = "n_group"},
    {.key = "expert_group_used_count", .type = LB_GGUF_U32, .names = "topk_group"},
    {.op = LB_KV_GATING,
     .key = "expert_gating_func",
     .type = LB_GGUF_U32,
     .names = "score_function|scoring_func|score_func|moe_router_activation|"
              "moe_router_activation_func|expert_selection_fn"},
    {.key = "attention.key_length", .type = LB_GGUF_U32, .names = "head_dim", .hf = "head_dim"},
    {.key = "attention.value_length",
     .type = LB_GGUF_U32,
     .names = "head_dim",
     .flags = LB_KVF_NO_BACK},
    {.op = LB_KV_FILE_TYPE, .key = "general.file_type", .type = LB_GGUF_U32},
};
const u32 lb_arch_common_n_kv = LB_LEN(lb_arch_common_kv);

bool lb_arch_stacks_by_table(const lb_arch *a) {
    return (a->flags & LB_ARCH_STACKS_BY_TABLE) != 0;
}

const lb_arch_graph *lb_arch_graph_of(const lb_arch *a) {
    return &a->graph;
}

const char *lb_arch_name(const lb_arch *a) {
    return a->gguf;
}

lb_str lb_arch_field_name(lb_str key, bool *optional, bool *number) {
    *optional = lb_str_ends(key, LB_STR("?"));
    key = lb_str_sub(key, 0, key.len - *optional);
    *number = lb_str_ends(key, LB_STR("~"));
    return lb_str_sub(key, 0, key.len - *number);
}

bool lb_arch_has_field(const lb_arch *a, const char *name) {
    static const char *const ends[] = {"", "?", "~", "~?"};
    char key[64];
    for (size_t i = 0; a->defaults && i < LB_LEN(ends); i++) {
        snprintf(key, sizeof key, "\"%s%s\":", name, ends[i]);
        if (strstr(a->defaults, key))
            return true;
    }
    return false;
}

const lb_arch_tensor *lb_arch_rows(const lb_arch *a, u32 *n) {
    *n = a->n_rows;
    return a->rows;
}

const lb_arch *lb_arch_at(u32 i, const char **family) {
    if (i >= LB_LEN(families))
        return NULL;
    if (family)
        *family = families[i]->family;
    return families[i];
}

const char *lb_arch_class_at(const lb_arch *a, u32 k) {
    const char *const *list = a->classes;
    for (u32 next = 0;; list = a->outers[next++].classes) {
        for (; *list; list++)
            if (k-- == 0)
                return *list;
        if (next == a->n_outers)
            return NULL;
    }
}

bool lb_arch_in_list(const char *const *list, lb_str name) {
    for (; *list; list++)
        if (lb_str_eq_c(name, *list))
            return true;
    return false;
}

const lb_arch *lb_arch_by_class(lb_str class_name) {
    for (size_t i = 0; i < LB_LEN(families); i++)
        if (lb_arch_in_list(families[i]->classes, class_name))
            return families[i];
    for (size_t i = 0; i < LB_LEN(families); i++)
        for (u32 k = 0; k < families[i]->n_outers; k++)
            if (lb_arch_in_list(families[i]->outers[k].classes, class_name))
                return families[i];
    return NULL;
}

const lb_arch *lb_arch_by_model_type(lb_str model_type) {
    for (size_t i = 0; i < LB_LEN(families); i++)
        if (lb_arch_in_list(families[i]->model_types, model_type) ||
            (families[i]->raw_types && lb_arch_in_list(families[i]->raw_types, model_type)))
            return families[i];
    return NULL;
}

bool lb_arch_has_config_class(const lb_arch *a, lb_str model_type) {
    return a && a->defaults && lb_arch_in_list(a->model_types, model_type);
}

/* Whether the metadata tells the family by a key of its own. */
static bool has_own_key(const lb_arch *a, const lb_gguf_meta *meta, lb_str name) {
    const lb_gguf_kv *kv = lb_meta_find_arch(meta, name, a->gguf_key);
    u64 v;
    return kv && (!a->gguf_value || (lb_kv_as_u64(kv, &v) && v == a->gguf_value));
}

bool lb_arch_has_experts(const lb_arch *a) {
    for (u32 i = 0; i < a->n_rows; i++)
        if (a->rows[i].flags & LB_ROW_EXPERT)
            return true;
    return false;
}

const lb_arch_kv *lb_arch_mtp_kv(const lb_arch *a) {
    for (u32 i = 0; i < a->n_kv; i++)
        if (a->kv[i].op == LB_KV_MTP && *a->kv[i].key)
            return &a->kv[i];
    return NULL;
}

bool lb_arch_has_recurrent(const lb_arch *a) {
    for (u32 i = 0; i < a->n_rows; i++)
        if (a->rows[i].flags & LB_ROW_RECURRENT)
            return true;
    return false;
}

const lb_arch *lb_arch_by_gguf(const lb_gguf_meta *meta, lb_str name, bool experts) {
    const lb_arch *best = NULL;
    int most = -1;
    for (size_t i = 0; i < LB_LEN(families); i++) {
        const lb_arch *a = families[i];
        if (!lb_str_eq_c(name, a->gguf) || (a->gguf_key && !has_own_key(a, meta, name)))
            continue;
        int points = 2 * (lb_arch_has_experts(a) == experts) + (a->gguf_key != NULL);
        if (points > most) {
            most = points;
            best = a;
        }
    }
    return best;
}

lb_status lb_arch_unknown(lb_err *err, const char *what, lb_str name) {
    char list[1024];
    size_t len = 0;
    for (size_t i = 0; i < LB_LEN(refused); i++)
        if (lb_str_eq_c(name, refused[i].class_name))
            return lb_fail(err, LB_E_UNSUPPORTED, "%s: %s", refused[i].class_name, refused[i].why);
    for (size_t i = 0; i < LB_LEN(families); i++) {
        const char *f = families[i]->family;
        size_t n = strlen(f);
        LB_ASSERT(len + n + 3 < sizeof list);
        memcpy(list + len, ", ", 2);
        memcpy(list + len + 2, f, n);
        len += n + 2;
    }
    return lb_fail(err, LB_E_UNSUPPORTED,
                   "%s '%.*s' is not a known architecture (known: %.*s): others go between Hugging "
                   "Face and MLX or within a format alone",
                   what, LB_FMT(lb_str_sub(name, 0, 100)), (int)(len - 2), list + 2);
}
