/* SPDX-License-Identifier: Apache-2.0 */
/* test_arch_limits.c: configs that GGUF or its readers cannot hold are refused, and the message
 * names the key; the nearest ones that they can hold are taken. */
#include "arch/arch_internal.h"
#include "test.h"

static lb_arena arena;
static lb_err err;

static lb_status meta_of(const char *text, const char *label) {
    lb_json *c;
    const lb_arch *a;
    lb_hparams hp;
    lb_gguf_meta m;
    err = (lb_err){0};
    LB_TRY(lb_json_parse(lb_str_c(text), "t", &arena, &c, &err));
    LB_TRY(lb_arch_from_config(c, &a, &hp, &err));
    lb_arch_meta_in in = {.config = c, .label = lb_str_c(label), .n_params = 1000};
    lb_meta_init(&m, &arena);
    lb_status st = lb_arch_meta_from_config(a, &in, &m, &err);
    lb_meta_deinit(&m);
    return st;
}

/* What the reference would lose in silence. */
LB_TEST(refused_configs) {
    CHECK_OK(meta_of("{\"model_type\": \"qwen2\"}", "x"));
    CHECK_U64(meta_of("{\"model_type\": \"qwen2\", \"rope_scaling\": {\"rope_type\": \"llama3\", "
                      "\"factor\": 8.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0}}",
                      "x"),
              LB_E_UNSUPPORTED);
    CHECK_U64(meta_of("{\"model_type\": \"llama\", \"rope_scaling\": {\"type\": \"mrope\"}}", "x"),
              LB_E_UNSUPPORTED);
    CHECK_U64(meta_of("{\"model_type\": \"qwen3\"}", "Qwen3-Reranker-0.6B"), LB_E_UNSUPPORTED);
    CHECK_U64(meta_of("{\"model_type\": \"gemma3_text\", \"attn_logit_softcapping\": 50.0}", "x"),
              LB_E_UNSUPPORTED);
    static const char *const gemma3[] = {"\"use_bidirectional_attention\": true"};
    static const char *const gemma4[] = {
        "\"use_bidirectional_attention\": \"all\"",
        "\"rope_parameters\": {\"full_attention\": {\"rope_type\": \"default\", \"rope_theta\": "
        "1e6}}",
        "\"num_hidden_layers\": 6, \"per_layer_config\": {\"5\": {\"head_dim\": 64}, \"4\": "
        "{\"head_dim\": 32}}",
        "\"num_hidden_layers\": 6, \"per_layer_config\": {\"5\": {\"head_dim\": 64, "
        "\"sliding_window\": 32}}",
        "\"num_hidden_layers\": 12, \"per_layer_config\": {\"5\": {\"head_dim\": 64, "
        "\"num_key_value_heads\": 1}, \"11\": {\"head_dim\": 64}}"};
    CHECK_OK(meta_of("{\"model_type\": \"gemma3_text\", \"sliding_window_pattern\": 1}", "x"));
    CHECK_OK(meta_of("{\"model_type\": \"gemma4_text\", \"num_hidden_layers\": 6, "
                     "\"per_layer_config\": {\"0\": {}, \"5\": {\"head_dim\": 64}}}",
                     "x"));
    for (size_t i = 0; i < LB_LEN(gemma3) + LB_LEN(gemma4); i++) {
        char text[256];
        bool four = i >= LB_LEN(gemma3);
        snprintf(text, sizeof text, "{\"model_type\": \"gemma%s_text\", %s}", four ? "4" : "3",
                 four ? gemma4[i - LB_LEN(gemma3)] : gemma3[i]);
        CHECK_U64(meta_of(text, "x"), LB_E_UNSUPPORTED);
    }
    CHECK_U64(meta_of("{\"model_type\": \"llama\", \"draft_vocab_size\": 5, "
                      "\"num_hidden_layers\": 1}",
                      "x"),
              LB_E_UNSUPPORTED);
    CHECK_U64(meta_of("{\"model_type\": \"llama\", \"vocab_size\": 99999999999}", "x"),
              LB_E_FORMAT);
    CHECK_OK(meta_of("{\"model_type\": \"phi3\"}", "x"));
    CHECK_OK(meta_of("{\"model_type\": \"phi3\", \"head_dim\": 96}", "x"));
    CHECK_U64(meta_of("{\"model_type\": \"phi3\", \"head_dim\": 64}", "x"), LB_E_UNSUPPORTED);
    CHECK_U64(meta_of("{\"model_type\": \"phi3\", \"rope_scaling\": {\"type\": \"linear\", "
                      "\"factor\": 2.0}}",
                      "x"),
              LB_E_UNSUPPORTED);
    CHECK_U64(meta_of("{\"model_type\": \"phi3\", \"partial_rotary_factor\": 1.5}", "x"),
              LB_E_FORMAT);
    CHECK_U64(meta_of("{\"model_type\": \"minimax_m2\", \"rotary_dim\": 129}", "x"), LB_E_FORMAT);
}

/* What the GGUF of a family has no key for. word: in the message. */
LB_TEST(no_key_for_it) {
    static const struct {
        const char *type, *more, *word;
    } rows[] = {
        {"nemotron", "\"hidden_act\": \"gelu\"", "hidden_act"},
        {"nemotron", "\"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2.0}", "rope_type"},
        {"stablelm", "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.0}", "rope_type"},
        {"stablelm", "\"head_dim\": 64", "head_dim"},
        {"glm", "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.0}", "rope_type"},
        {"glm", "\"head_dim\": 64", "head_dim"},
        {"glm4", "\"rope_scaling\": {\"rope_type\": \"default\", \"mrope_section\": [8, 4, 4]}",
         "mrope_section"},
        {"phimoe",
         "\"rope_scaling\": {\"type\": \"longrope\", \"long_factor\": [], \"short_factor\": [], "
         "\"original_max_position_embeddings\": 4096, \"long_mscale\": 1.2, "
         "\"short_mscale\": 1.1}",
         "short_mscale"},
        {"phimoe",
         "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.0, "
         "\"original_max_position_embeddings\": 4096}",
         "rope_type"},
        {"minimax_m2", "\"scoring_func\": \"softmax\"", "scoring_func"},
    };
    for (size_t i = 0; i < LB_LEN(rows); i++) {
        lb_str text =
            lb_arena_printf(&arena, "{\"model_type\": \"%s\", %s}", rows[i].type, rows[i].more);
        CHECK_U64(meta_of(text.ptr, "x"), LB_E_UNSUPPORTED);
        CHECK(strstr(err.msg, rows[i].word));
    }
}

/* ... and the same families as their config classes have them. */
LB_TEST(defaults_have_a_form) {
    static const char *const types[] = {"phi3", "nemotron", "stablelm", "glm4", "glm"};
    for (size_t i = 0; i < LB_LEN(types); i++)
        CHECK_OK(meta_of(lb_arena_printf(&arena, "{\"model_type\": \"%s\"}", types[i]).ptr, "x"));
}

/* A config with which GGUF or its readers would have another model; the message names the key. */
LB_TEST(refused_by_family) {
    static const struct {
        const char *config, *names; /* NULL: taken */
    } cases[] = {
        {"{\"model_type\": \"mistral\", \"architectures\": [\"MistralModel\"]}", NULL},
        {"{\"model_type\": \"gpt2\", \"n_ctx\": 1024}", NULL},
        {"{\"model_type\": \"gpt2\", \"activation_function\": \"gelu_pytorch_tanh\"}", NULL},
        {"{\"model_type\": \"gpt2\", \"activation_function\": \"relu\"}", "activation_function"},
        {"{\"model_type\": \"gpt2\", \"scale_attn_weights\": false}", "scale_attn_weights"},
        {"{\"model_type\": \"gpt2\", \"scale_attn_by_inverse_layer_idx\": true}", "inverse_layer"},
        {"{\"model_type\": \"gpt2\", \"add_cross_attention\": true}", "add_cross_attention"},
        {"{\"model_type\": \"hunyuan_v1_dense\", \"max_position_embeddings\": 32768,"
         "\"rope_scaling\": {\"type\": \"dynamic\", \"alpha\": 50.0, \"factor\": 1.0}}",
         NULL},
        {"{\"model_type\": \"hunyuan_v1_dense\", \"max_position_embeddings\": 32768,"
         "\"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 1.0}}",
         "alpha"},
        {"{\"model_type\": \"hunyuan_v1_dense\", \"max_position_embeddings\": 4096,"
         "\"rope_scaling\": {\"type\": \"dynamic\", \"alpha\": 50.0, \"factor\": 1.0}}",
         "positions"},
        {"{\"model_type\": \"hunyuan_v1_dense\", \"max_position_embeddings\": 32768,"
         "\"rope_theta\": 20000.0,"
         "\"rope_scaling\": {\"type\": \"dynamic\", \"alpha\": 50.0, \"factor\": 1.0}}",
         "base"},
        {"{\"model_type\": \"hunyuan_v1_dense\", \"num_experts\": 1}", NULL},
        {"{\"model_type\": \"hunyuan_v1_dense\", \"num_experts\": 8}", "num_experts"},
        {"{\"model_type\": \"ernie4_5_moe\", \"moe_layer_end_index\": 27}", NULL},
        {"{\"model_type\": \"ernie4_5_moe\", \"moe_layer_end_index\": 26}", "moe_layer_end_index"},
        {"{\"model_type\": \"lfm2\"}", NULL},
        {"{\"model_type\": \"lfm2\", \"conv_bias\": true}", "conv_bias"},
        {"{\"model_type\": \"lfm2\", \"block_multiple_of\": 0}", "block_multiple_of"},
        {"{\"model_type\": \"lfm2\", \"block_ffn_dim_multiplier\": -1.0}", "feed-forward"},
        {"{\"model_type\": \"lfm2_moe\"}", "layer_types"},
        {"{\"model_type\": \"lfm2_moe\", \"num_hidden_layers\": 1, \"layer_types\": [\"conv\"],"
         "\"norm_topk_prob\": false}",
         "norm_topk_prob"},
        {"{\"model_type\": \"lfm2_moe\", \"num_hidden_layers\": 1, \"layer_types\": [\"conv\"],"
         "\"routed_scaling_factor\": 2.5}",
         "routed_scaling_factor"},
    };
    for (size_t i = 0; i < LB_LEN(cases); i++) {
        lb_status st = meta_of(cases[i].config, "x");
        bool ok = cases[i].names ? st == LB_E_UNSUPPORTED || st == LB_E_FORMAT : st == LB_OK;
        if (!ok || (cases[i].names && !strstr(err.msg, cases[i].names)))
            lb_test_fail(__FILE__, __LINE__, "%s: %d %s", cases[i].config, (int)st, err.msg);
    }
    lb_arena_deinit(&arena);
}

LB_TEST_MAIN("fast")
