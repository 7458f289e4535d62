/* SPDX-License-Identifier: Apache-2.0 */
/* test_arch_refuse.c: what a config or a GGUF says and the target cannot say is refused by name;
 * beside each, the nearest config that passes. */
#include "arch/arch_config.h"
#include "test.h"
#include <stdlib.h>

static lb_arena arena;
static lb_err err;

#define SIZES                                                                       \
    "\"hidden_size\": 64, \"intermediate_size\": 96, \"num_hidden_layers\": 4, "    \
    "\"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"vocab_size\": 384, " \
    "\"max_position_embeddings\": 512, "
#define S "\"sliding_attention\""
#define F "\"full_attention\""
#define R "\"linear_attention\""

static lb_status to(lb_world world, const char *more) {
    const lb_arch *a;
    lb_hparams hp;
    lb_json *config;
    lb_gguf_meta meta;
    lb_buf b = {0};
    lb_str text = *more == '{' ? lb_str_c(more) : lb_arena_printf(&arena, "{" SIZES "%s}", more);
    lb_status st = lb_json_parse(text, "config.json", &arena, &config, &err);
    if (st == LB_OK)
        st = lb_arch_from_config(config, &a, &hp, &err);
    lb_meta_init(&meta, &arena);
    if (st == LB_OK && world == LB_WORLD_GGUF)
        st = lb_arch_meta_model(a, config, &meta, &err);
    else if (st == LB_OK)
        st = lb_arch_config_to_mlx(text, NULL, NULL, &b, &err);
    lb_meta_deinit(&meta);
    lb_buf_deinit(&b);
    return st;
}

static const struct {
    lb_world to;
    const char *more, *why; /* more: beside SIZES, or "{": all. NULL: passes */
} configs[] = {
    {LB_WORLD_GGUF, "\"model_type\": \"llama\", \"hidden_act\": \"swish\"", NULL},
    {LB_WORLD_GGUF, "\"model_type\": \"llama\", \"hidden_act\": \"gelu\"", "hidden_act"},
    {LB_WORLD_GGUF, "\"model_type\": \"qwen3\", \"hidden_act\": \"relu\"", "hidden_act"},
    {LB_WORLD_GGUF, "\"model_type\": \"cohere\"", NULL},
    {LB_WORLD_GGUF, "\"model_type\": \"cohere\", \"tie_word_embeddings\": false",
     "no output matrix"},
    {LB_WORLD_GGUF,
     "\"model_type\": \"cohere\", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.0}",
     "no rope scaling"},
    {LB_WORLD_GGUF, "\"model_type\": \"cohere2\", \"rotary_pct\": 1.0", NULL},
    {LB_WORLD_GGUF, "\"model_type\": \"cohere2\", \"rotary_pct\": 0.5", "rotary_pct"},
    {LB_WORLD_GGUF, "\"model_type\": \"cohere2\", \"sliding_window\": null", "sliding_window"},
    {LB_WORLD_GGUF, "\"model_type\": \"cohere2\", \"sliding_window_pattern\": 4", NULL},
    {LB_WORLD_GGUF, "\"model_type\": \"cohere2\", \"sliding_window_pattern\": 3",
     "every layer of 4"},
    {LB_WORLD_MLX, "\"model_type\": \"cohere2\", \"sliding_window_pattern\": 3", NULL},
    {LB_WORLD_GGUF, "\"model_type\": \"cohere2\", \"layer_types\": [" S ", " F ", " F ", " S "]",
     "every layer of 4"},
    {LB_WORLD_MLX, "\"model_type\": \"cohere2\", \"layer_types\": [" S ", " F ", " F ", " S "]",
     "irregular"},
    {LB_WORLD_MLX, "\"model_type\": \"cohere2\", \"layer_types\": [" S ", " F ", " S ", " F "]",
     NULL},
#define NESTED(full, local)                                                    \
    "\"model_type\": \"olmo3\", \"sliding_window\": 16, \"rope_parameters\": " \
    "{\"full_attention\": {" full "}, \"sliding_attention\": {" local "}}"
    {LB_WORLD_GGUF, "\"model_type\": \"olmo3\"", NULL},
    {LB_WORLD_GGUF, "\"model_type\": \"olmo3\", \"sliding_window\": null", "sliding_window"},
    {LB_WORLD_MLX, NESTED("\"rope_theta\": 5.0", "\"rope_theta\": 5.0"), NULL},
    {LB_WORLD_GGUF, NESTED("\"rope_theta\": 5.0", "\"rope_theta\": 7.0"), NULL},
    {LB_WORLD_MLX, NESTED("\"rope_theta\": 5.0", "\"rope_theta\": 7.0"), "two rope bases"},
    {LB_WORLD_GGUF, NESTED("\"type\": \"linear\", \"factor\": 2.0", "\"rope_theta\": 7.0"), NULL},
    {LB_WORLD_GGUF, NESTED("\"rope_theta\": 7.0", "\"type\": \"linear\", \"factor\": 2.0"),
     "not scaled"},
    {LB_WORLD_GGUF, "\"model_type\": \"olmo2\"", NULL},
    {LB_WORLD_GGUF, "\"model_type\": \"olmo2\", \"sliding_window\": 16", "Olmo3ForCausalLM"},
    {LB_WORLD_MLX, "\"model_type\": \"exaone4\", \"layer_types\": [" S ", " F ", " F ", " S "]",
     NULL},
    {LB_WORLD_MLX, "\"model_type\": \"exaone4\", \"layer_types\": [" S ", " S ", " S ", " S "]",
     "needs both"},
    {LB_WORLD_MLX,
     "\"model_type\": \"exaone4\", \"layer_types\": [" F ", " F ", " F ", " F "], "
     "\"sliding_window\": null",
     NULL},
#define YARN(more)                                                            \
    "\"model_type\": \"ministral3\", \"rope_parameters\": {\"factor\": 4.0, " \
    "\"mscale_all_dim\": 1.0, \"llama_4_scaling_beta\": 0.1, " more "}"
    {LB_WORLD_GGUF, "\"model_type\": \"ministral3\"", NULL},
    {LB_WORLD_GGUF, "\"model_type\": \"ministral3\", \"sliding_window\": 16", "no sliding window"},
    {LB_WORLD_GGUF, YARN("\"type\": \"yarn\", \"mscale\": 1"), NULL},
    {LB_WORLD_GGUF, YARN("\"type\": \"yarn\", \"mscale\": 0.5"), "carries no other"},
    {LB_WORLD_GGUF, YARN("\"type\": \"yarn\""), "carries no other"},
    {LB_WORLD_GGUF, YARN("\"type\": \"linear\", \"mscale\": 1.0"), "scaled so"},
    {LB_WORLD_GGUF, "\"model_type\": \"smollm3\"", NULL},
    {LB_WORLD_GGUF, "\"model_type\": \"smollm3\", \"no_rope_layer_interval\": 4", NULL},
    {LB_WORLD_GGUF, "\"model_type\": \"smollm3\", \"no_rope_layer_interval\": 3",
     "every layer of 4"},
    {LB_WORLD_GGUF, "\"model_type\": \"smollm3\", \"no_rope_layer_interval\": 5",
     "every layer of 4"},
    {LB_WORLD_MLX, "\"model_type\": \"smollm3\", \"no_rope_layer_interval\": 3", NULL},
    {LB_WORLD_GGUF,
     "\"model_type\": \"smollm3\", \"no_rope_layer_interval\": 3, "
     "\"no_rope_layers\": [1, 1, 1, 0]",
     NULL},
    {LB_WORLD_GGUF, "\"model_type\": \"smollm3\", \"no_rope_layers\": [1, 1, 0, 0]",
     "every layer of 4"},
#define NEXT(more) "\"model_type\": \"qwen3_next\"" more
    {LB_WORLD_GGUF, NEXT(""), NULL},
    {LB_WORLD_MLX, NEXT(", \"rope_theta\": 5.0"), NULL},
    {LB_WORLD_GGUF, NEXT(", \"norm_topk_prob\": false"), "carries no other"},
    {LB_WORLD_MLX, NEXT(", \"rope_theta\": 5.0, \"norm_topk_prob\": false"), NULL},
    {LB_WORLD_GGUF, NEXT(", \"linear_num_value_heads\": 24"), "24 heads of values"},
    {LB_WORLD_GGUF, NEXT(", \"layer_types\": [" R ", " F ", " F ", " R "]"), NULL},
    {LB_WORLD_MLX, NEXT(", \"layer_types\": [" R ", " F ", " F ", " R "]"), "irregular"},
    {LB_WORLD_MLX, NEXT(", \"layer_types\": [" R ", " F ", " R ", " F "]"), NULL},
    {LB_WORLD_MLX,
     "\"model_type\": \"qwen3_5_text\", \"layer_types\": [" F ", " R ", " R ", " R "]",
     "irregular"},
    {LB_WORLD_GGUF, "\"model_type\": \"olmoe\", \"clip_qkv\": null", NULL},
    {LB_WORLD_GGUF, "\"model_type\": \"olmoe\", \"clip_qkv\": 8.0", "clip_qkv"},
#define BIASED ", \"attention_bias\": true, \"lm_head_bias\": true"
#define PHIMOE(more) \
    "\"model_type\": \"phimoe\", \"num_local_experts\": 4, \"num_experts_per_tok\": 2" more
    {LB_WORLD_GGUF, PHIMOE(", \"head_dim\": 16"), NULL},
    {LB_WORLD_GGUF, PHIMOE(", \"head_dim\": 32"), "head_dim"},
    {LB_WORLD_GGUF, PHIMOE(", \"rope_scaling\": null"), NULL}, /* Phi mini MoE */
    {LB_WORLD_MLX, PHIMOE(BIASED), NULL},
    {LB_WORLD_MLX, PHIMOE(BIASED ", \"tie_word_embeddings\": true"), "'tie_word_embeddings': mlx"},
    {LB_WORLD_MLX, PHIMOE(", \"attention_bias\": true"), "'lm_head_bias': mlx"},
    {LB_WORLD_MLX, PHIMOE(", \"lm_head_bias\": true"), "'attention_bias': mlx"},
    /* mlx-lm's classes that always or never have biases, or experts in each layer */
    {LB_WORLD_MLX, "\"model_type\": \"gemma\", \"attention_bias\": true", "'attention_bias': mlx"},
    {LB_WORLD_MLX, "\"model_type\": \"gemma2\", \"attention_bias\": true", "'attention_bias': mlx"},
    {LB_WORLD_MLX, "\"model_type\": \"gemma\", \"tie_word_embeddings\": false",
     "'tie_word_embeddings': mlx"},
    {LB_WORLD_MLX, "\"model_type\": \"gemma2\", \"tie_word_embeddings\": false",
     "'tie_word_embeddings': mlx"},
    {LB_WORLD_MLX, "\"model_type\": \"cohere\"", NULL},
    {LB_WORLD_MLX, "\"model_type\": \"cohere\", \"tie_word_embeddings\": false",
     "'tie_word_embeddings': mlx"},
    {LB_WORLD_MLX, "\"model_type\": \"cohere2\", \"tie_word_embeddings\": false",
     "'tie_word_embeddings': mlx"},
    {LB_WORLD_MLX, "\"model_type\": \"glm4\", \"rope_theta\": 5.0", NULL},
    {LB_WORLD_MLX, "\"model_type\": \"glm4\", \"rope_theta\": 5.0, \"tie_word_embeddings\": true",
     "'tie_word_embeddings': mlx"},
    {LB_WORLD_MLX, "\"model_type\": \"qwen3\"", NULL},
    {LB_WORLD_MLX, "\"model_type\": \"qwen3\", \"attention_bias\": true", "'attention_bias': mlx"},
    {LB_WORLD_MLX, "\"model_type\": \"starcoder2\", \"use_bias\": false", "'use_bias': mlx"},
    {LB_WORLD_MLX, "\"model_type\": \"gpt_oss\", \"attention_bias\": false",
     "'attention_bias': mlx"},
#define QWEN_EXPERTS(type, more) \
    "\"model_type\": \"" type "\", \"num_experts\": 4, \"num_experts_per_tok\": 2" more
    {LB_WORLD_MLX, QWEN_EXPERTS("qwen2_moe", ", \"mlp_only_layers\": []"), NULL},
    {LB_WORLD_MLX, QWEN_EXPERTS("qwen2_moe", ", \"mlp_only_layers\": [0]"),
     "'mlp_only_layers': mlx"},
    {LB_WORLD_MLX, QWEN_EXPERTS("qwen2_moe", ", \"decoder_sparse_step\": 2"),
     "'decoder_sparse_step': mlx"},
    {LB_WORLD_MLX, QWEN_EXPERTS("qwen2_moe", ", \"qkv_bias\": false"), "'qkv_bias': mlx"},
    {LB_WORLD_MLX, QWEN_EXPERTS("qwen3_moe", ", \"attention_bias\": true"),
     "'attention_bias': mlx"},
    {LB_WORLD_MLX, QWEN_EXPERTS("qwen3_moe", ", \"mlp_only_layers\": [0]"), NULL},
#define LATENT(more)                                                                    \
    "{\"model_type\": \"deepseek_v2\", \"hidden_size\": 64, \"num_hidden_layers\": 4, " \
    "\"num_attention_heads\": 4, \"num_experts_per_tok\": 2, \"qk_rope_head_dim\": 8" more "}"
    {LB_WORLD_GGUF, LATENT(", \"moe_layer_freq\": 1"), NULL},
    {LB_WORLD_GGUF, LATENT(", \"moe_layer_freq\": 2"), "dense layers"},
    {LB_WORLD_GGUF, LATENT(", \"tie_word_embeddings\": true"), NULL},
    {LB_WORLD_MLX, LATENT(""), NULL},
    {LB_WORLD_MLX, LATENT(", \"tie_word_embeddings\": true"), "knows another value only"},
    {LB_WORLD_MLX, LATENT(", \"mlp_bias\": true"), "'mlp_bias': mlx"},
#define LATENT3(more)                                                                   \
    "{\"model_type\": \"deepseek_v3\", \"hidden_size\": 64, \"num_hidden_layers\": 4, " \
    "\"num_attention_heads\": 4, \"num_key_value_heads\": 4, \"qk_rope_head_dim\": 8" more "}"
    {LB_WORLD_GGUF, LATENT3(", \"rope_interleave\": true"), NULL},
    {LB_WORLD_GGUF, LATENT3(", \"rope_interleave\": false"), "rotates neighbours"},
    {LB_WORLD_MLX, LATENT3(""), NULL},
    {LB_WORLD_MLX, LATENT3(", \"rope_interleave\": false"), "'rope_interleave': mlx"},
};

/* What a reader takes otherwise than the config says it, where that is not refused. */
static const struct {
    const char *more, *said;
} remarks[] = {
    {"\"model_type\": \"qwen3_moe\", \"norm_topk_prob\": true", NULL},
    {"\"model_type\": \"qwen3_moe\", \"norm_topk_prob\": false", "'norm_topk_prob' is not true"},
    {"\"model_type\": \"qwen3_moe\"", "'norm_topk_prob' is not true"}, /* the class's default */
    {"\"model_type\": \"qwen2_moe\"", NULL},
    {"\"model_type\": \"qwen2_moe\", \"norm_topk_prob\": true", "'norm_topk_prob' is not false"},
    {"\"model_type\": \"olmoe\", \"norm_topk_prob\": true", "'norm_topk_prob' is not false"},
    {"\"model_type\": \"olmoe\", \"rms_norm_eps\": 0.00001", NULL},
    {"\"model_type\": \"olmoe\", \"rms_norm_eps\": 1e-6", "'rms_norm_eps' is not 1e-05"},
    {"\"model_type\": \"qwen2\", \"sliding_window\": 8, \"use_sliding_window\": false", NULL},
    {"\"model_type\": \"qwen2\", \"sliding_window\": 8, \"use_sliding_window\": true",
     "'use_sliding_window' is not false"},
    {"\"model_type\": \"qwen3\", \"use_sliding_window\": true",
     "'use_sliding_window' is not false"},
    {"\"model_type\": \"mistral\", \"sliding_window\": null", NULL},
    {"\"model_type\": \"mistral\", \"sliding_window\": 4096", "'sliding_window' is not null"},
};

LB_TEST(said) {
    for (size_t i = 0; i < LB_LEN(remarks); i++) {
        const lb_arch *a;
        lb_hparams hp;
        lb_json *config;
        lb_gguf_meta meta;
        lb_buf said = {0};
        size_t at;
        lb_str text = lb_arena_printf(&arena, "{" SIZES "\"num_experts\": 4, %s}", remarks[i].more);
        lb_meta_init(&meta, &arena);
        CHECK_OK(lb_json_parse(text, "config.json", &arena, &config, &err));
        CHECK_OK(lb_arch_from_config(config, &a, &hp, &err));
        lb_arch_meta_in in = {.config = config, .label = LB_STR("x"), .said = &said};
        CHECK_OK(lb_arch_meta_from_config(a, &in, &meta, &err));
        if (remarks[i].said ? !lb_str_find(lb_buf_str(&said), lb_str_c(remarks[i].said), &at)
                            : said.len != 0)
            lb_test_fail(__FILE__, __LINE__, "%s: '%.*s'", remarks[i].more,
                         LB_FMT(lb_buf_str(&said)));
        lb_buf_deinit(&said);
        lb_meta_deinit(&meta);
        lb_arena_reset(&arena);
    }
    lb_arena_deinit(&arena);
}

LB_TEST(refused_configs) {
    for (size_t i = 0; i < LB_LEN(configs); i++) {
        lb_status st = to(configs[i].to, configs[i].more);
        bool right = configs[i].why ? st == LB_E_UNSUPPORTED || st == LB_E_FORMAT : st == LB_OK;
        if (!right || (configs[i].why && !strstr(err.msg, configs[i].why)))
            lb_test_fail(__FILE__, __LINE__, "%s: %d %s", configs[i].more, st,
                         st == LB_OK ? "" : err.msg);
        lb_arena_reset(&arena);
    }
    lb_arena_deinit(&arena);
}

/* GGUF metadata of four layers, "key=number" or
 * "key:word" each, as a config. */
static lb_status back(const char *arch, const char *const *more, lb_arch_config_out *out) {
    static const char *const base[] = {"block_count=4", "context_length=512", "embedding_length=64",
                                       "feed_forward_length=96", "attention.head_count=4"};
    lb_gguf_meta meta;
    lb_arch_seen seen = {.vocab_rows = 384};
    lb_arch_config_in in = {.meta = &meta, .seen = &seen, .dtype = LB_BF16};
    lb_meta_init(&meta, &arena);
    lb_status st = lb_meta_set_str(&meta, "general.architecture", lb_str_c(arch), &err);
    for (size_t i = 0; st == LB_OK && (i < LB_LEN(base) || more[i - LB_LEN(base)]); i++) {
        const char *kv = i < LB_LEN(base) ? base[i] : more[i - LB_LEN(base)],
                   *eq = strpbrk(kv, "=:");
        lb_str key = lb_arena_printf(&arena, "%s.%.*s", arch, (int)(eq - kv), kv);
        st = *eq == ':' ? lb_meta_set_str(&meta, key.ptr, lb_str_c(eq + 1), &err)
             : strchr(eq, '.')
                 ? lb_meta_set_f32(&meta, key.ptr, strtof(eq + 1, NULL), &err)
                 : lb_meta_set_u32(&meta, key.ptr, (u32)strtoul(eq + 1, NULL, 10), &err);
    }
    if (st == LB_OK)
        st = lb_arch_config_from_meta(&in, &arena, out, &err);
    lb_meta_deinit(&meta);
    return st;
}

#define RMS "attention.layer_norm_rms_epsilon=0.00001"
#define NORM "attention.layer_norm_epsilon=0.00001"

static const struct {
    const char *arch, *more[6], *why; /* NULL: passes... */
    const char *has;                  /* ... with this in the config */
} metas[] = {
    {"command-r", {NORM}, NULL, "\"logit_scale\": 1.0"},
    {"command-r", {NORM, "logit_scale=0.25"}, NULL, "\"logit_scale\": 0.25"},
    {"cohere2", {NORM, "logit_scale=0.25", "attention.sliding_window=16"}, NULL, "cohere2"},
    {"cohere2", {NORM, "logit_scale=0.25"}, "sliding_window' is missing", NULL},
    {"cohere2", {NORM, "attention.sliding_window=16"}, "logit_scale' is missing", NULL},
    {"olmo2", {RMS, "attention.head_count_kv=2"}, NULL, "Olmo2ForCausalLM"},
    {"olmo2", {RMS, "attention.sliding_window=16"}, NULL, "Olmo3ForCausalLM"},
    {"olmo2", {RMS, "attention.sliding_window=16"}, NULL, S ",\n    " S ",\n    " S ",\n    " F},
    {"exaone4", {RMS, "attention.sliding_window=16"}, NULL, "\"LLLG\""},
    {"exaone4", {RMS}, NULL, "\"sliding_window_pattern\": null"},
    {"exaone4", {RMS, "attention.sliding_window=0"}, NULL, "\"sliding_window\": null"},
#define HEAT "attention.temperature_scale=0.25", RMS
    {"mistral3",
     {HEAT, "rope.scaling.type:yarn", "rope.scaling.factor=4.0"},
     NULL,
     "\"llama_4_scaling_beta\": 0.25"},
    {"mistral3",
     {HEAT, "rope.scaling.type:yarn", "rope.scaling.factor=1.0"},
     NULL,
     "\"mscale_all_dim\": 0.0"},
    {"mistral3", {HEAT}, "no yarn", NULL},
    {"mistral3", {RMS}, NULL, "MistralForCausalLM"},
    {"mistral3", {HEAT, "rope.scaling.factor=4.0"}, "no yarn", NULL},
};

LB_TEST(metadata) {
    for (size_t i = 0; i < LB_LEN(metas); i++) {
        lb_arch_config_out out = {0};
        lb_status st = back(metas[i].arch, metas[i].more, &out);
        size_t at;
        if (metas[i].why ? st == LB_OK || !strstr(err.msg, metas[i].why)
                         : st != LB_OK || !lb_str_find(out.config, lb_str_c(metas[i].has), &at))
            lb_test_fail(__FILE__, __LINE__, "row %zu: %d %s %.*s", i, st,
                         st == LB_OK ? "" : err.msg, LB_FMT(out.config));
        lb_arena_reset(&arena);
    }
    lb_arena_deinit(&arena);
}

LB_TEST_MAIN("fast")
