/* SPDX-License-Identifier: Apache-2.0 */
/* test_recipe_hf.c: which matrices of Hugging Face folders are quantized, how, under which names,
 * and what config.json says of it (texts by compressed-tensors 0.20's update_config). */
#include "arch/arch_config.h"
#include "quant/hf_scheme.h"
#include "test.h"

static lb_err err;
static lb_arena perm;

static const char llama[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", "
    "\"hidden_size\": 256, \"intermediate_size\": 384, "
    "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, "
    "\"num_key_value_heads\": 2, \"vocab_size\": 320}";
static const char qwen3moe[] =
    "{\"architectures\": [\"Qwen3MoeForCausalLM\"], \"model_type\": \"qwen3_moe\", "
    "\"hidden_size\": "
    "256, \"intermediate_size\": 384, \"moe_intermediate_size\": 128, \"num_experts\": 2, "
    "\"num_experts_per_tok\": 1, \"num_hidden_layers\": 1, \"num_attention_heads\": 4, "
    "\"num_key_value_heads\": 2, \"head_dim\": 64, \"vocab_size\": 320}";

typedef struct row {
    const char *name;
    u64 rows, cols;
    lb_hf_why why; /* expected */
} row;

typedef struct run {
    lb_hf_ask ask;
    lb_hf_form form;
    lb_hf_job job;
    lb_hf_tensor tensors[32];
    lb_hf_choice choices[32];
    lb_overrides overrides;
    lb_hparams hp;
    lb_json *config;
} run;

static lb_status choose(run *r, const char *type, const char *config, const row *rows, u32 n) {
    lb_json *c = NULL;
    lb_status st = lb_hf_form_find(lb_str_c(type), &r->ask, &r->form, &err);
    if (st != LB_OK)
        return st;
    r->job = (lb_hf_job){.form = &r->form,
                         .ask = &r->ask,
                         .overrides = r->overrides.arena ? &r->overrides : NULL,
                         .hp = &r->hp,
                         .n = n,
                         .tensors = r->tensors};
    if (config) {
        LB_TRY(lb_json_parse(lb_str_c(config), "config.json", &perm, &c, &err));
        LB_TRY(lb_arch_from_config(c, &r->job.arch, &r->hp, &err));
    }
    for (u32 i = 0; i < n; i++) {
        r->tensors[i] =
            (lb_hf_tensor){lb_str_c(rows[i].name), {2, {rows[i].rows, rows[i].cols}}, LB_BF16};
        if (rows[i].cols == 0)
            r->tensors[i].shape = (lb_shape){1, {rows[i].rows}};
    }
    st = lb_hf_choose(&r->job, r->choices, &err);
    return st == LB_OK ? lb_hf_config(&r->job, r->choices, &perm, &r->config, &err) : st;
}

static void check_whys(const run *r, const row *rows) {
    for (u64 i = 0; i < r->job.n; i++) {
        bool codes = rows[i].why == LB_HF_WHY_DEFAULT || rows[i].why == LB_HF_WHY_OVERRIDE;
        if (r->choices[i].why != rows[i].why || (r->choices[i].quantized && !codes))
            lb_test_fail(__FILE__, __LINE__, "%s: %d, expected %d", rows[i].name,
                         (int)r->choices[i].why, (int)rows[i].why);
    }
}

static bool text_is(const lb_json *v, const char *want) {
    lb_buf b = {0};
    lb_json_write(&b, v, (lb_json_style){0});
    bool ok = lb_str_eq_c(lb_buf_str(&b), want);
    if (!ok)
        fprintf(stderr, "%.*s\n", LB_FMT(lb_buf_str(&b)));
    lb_buf_deinit(&b);
    return ok;
}

#define LAYER "model.layers.0."
static const row dense[] = {
    {"model.embed_tokens.weight", 320, 256, LB_HF_WHY_NO_MODULE},
    {LAYER "input_layernorm.weight", 256, 0, LB_HF_WHY_NO_MODULE},
    {LAYER "self_attn.q_proj.weight", 256, 256, LB_HF_WHY_DEFAULT},
    {LAYER "self_attn.k_proj.weight", 128, 256, LB_HF_WHY_DEFAULT},
    {LAYER "self_attn.v_proj.weight", 128, 256, LB_HF_WHY_DEFAULT},
    {LAYER "self_attn.o_proj.weight", 256, 256, LB_HF_WHY_DEFAULT},
    {LAYER "mlp.gate_proj.weight", 384, 256, LB_HF_WHY_DEFAULT},
    {LAYER "mlp.up_proj.weight", 384, 256, LB_HF_WHY_DEFAULT},
    {LAYER "mlp.down_proj.weight", 256, 384, LB_HF_WHY_DEFAULT},
    {"lm_head.weight", 320, 256, LB_HF_WHY_HEAD},
};

LB_TEST(configs) {
    run r = {0};
    CHECK_OK(choose(&r, "w4a16", llama, dense, LB_LEN(dense)));
    check_whys(&r, dense);
    CHECK(text_is(
        r.config,
        "{\"config_groups\": {\"group_0\": {\"format\": \"pack-quantized\", \"input_activations\": "
        "null, \"output_activations\": null, \"targets\": [\"Linear\"], \"weights\": {\"dynamic\": "
        "false, \"group_size\": 128, \"num_bits\": 4, \"strategy\": \"group\", \"symmetric\": "
        "true, "
        "\"type\": \"int\"}}}, \"format\": \"pack-quantized\", \"global_compression_ratio\": null, "
        "\"ignore\": [\"lm_head\"], \"kv_cache_scheme\": null, \"moe_sparsity_config\": null, "
        "\"quant_method\": \"compressed-tensors\", \"quantization_status\": \"compressed\", "
        "\"sparsity_config\": {}, \"transform_config\": {}, \"version\": \"0.20.0\"}"));
    CHECK_OK(choose(&r, "fp8", llama, dense, LB_LEN(dense) - 1)); /* tied: the head is named, too */
    CHECK(text_is(
        lb_json_path(r.config, "config_groups.group_0"),
        "{\"format\": \"float-quantized\", \"input_activations\": {\"dynamic\": true, "
        "\"group_size\": null, \"num_bits\": 8, \"strategy\": \"token\", \"symmetric\": true, "
        "\"type\": \"float\"}, \"output_activations\": null, \"targets\": [\"Linear\"], "
        "\"weights\": {\"dynamic\": false, \"group_size\": null, \"num_bits\": 8, \"strategy\": "
        "\"channel\", \"symmetric\": true, \"type\": \"float\"}}"));
    CHECK(text_is(lb_json_get(r.config, "ignore"), "[\"lm_head\"]"));
    CHECK_OK(choose(&r, "fp8-block", llama, dense, LB_LEN(dense)));
    CHECK(text_is(r.config, "{\"activation_scheme\": \"dynamic\", \"fmt\": \"e4m3\", "
                            "\"modules_to_not_convert\": [\"lm_head\"], \"quant_method\": \"fp8\", "
                            "\"weight_block_size\": [128, 128]}"));
    lb_arena_reset(&perm);
}

/* What a loader fuses has one type; experts of a layer are one module. */
LB_TEST(mates) {
    static const row odd[] = {
        {LAYER "self_attn.q_proj.weight", 256, 256, LB_HF_WHY_MATE},
        {LAYER "self_attn.k_proj.weight", 64, 256, LB_HF_WHY_ROWS},
        {LAYER "self_attn.v_proj.weight", 128, 256, LB_HF_WHY_MATE},
        {LAYER "self_attn.o_proj.weight", 256, 256, LB_HF_WHY_DEFAULT},
        {LAYER "mlp.experts.0.gate_proj.weight", 128, 256, LB_HF_WHY_MATE},
        {LAYER "mlp.experts.0.down_proj.weight", 256, 96, LB_HF_WHY_ROWS},
        {LAYER "mlp.experts.1.up_proj.weight", 128, 256, LB_HF_WHY_MATE},
        {LAYER "mlp.gate.weight", 2, 256, LB_HF_WHY_ROUTER},
    };
    run r = {0};
    CHECK_OK(choose(&r, "fp8-block", qwen3moe, odd, LB_LEN(odd)));
    check_whys(&r, odd);
    CHECK(text_is(lb_json_get(r.config, "modules_to_not_convert"),
                  "[\"" LAYER "self_attn.q_proj\", \"" LAYER "self_attn.k_proj\", \"" LAYER
                  "self_attn.v_proj\", \"" LAYER "mlp.experts\", \"" LAYER
                  "mlp.experts.0.gate_proj\", \"" LAYER "mlp.experts.0.down_proj\", \"" LAYER
                  "mlp.experts.1.up_proj\", \"" LAYER "mlp.gate\", \"lm_head\"]"));
    CHECK_OK(choose(&r, "fp8", qwen3moe, odd, LB_LEN(odd)));
    CHECK(r.choices[0].quantized && r.choices[5].quantized && !r.choices[7].quantized);
    r.ask = (lb_hf_ask){.asym = true};
    CHECK(choose(&r, "w4a16", qwen3moe, odd + 6, 1) == LB_E_USAGE && strstr(err.msg, "experts"));
    r.ask = (lb_hf_ask){.has_scope = true, .scope = LB_SCOPE_TENSOR};
    CHECK(choose(&r, "fp8", qwen3moe, odd + 6, 1) == LB_E_USAGE && strstr(err.msg, "experts"));
    r.ask = (lb_hf_ask){0};
    CHECK(choose(&r, "fp8-block", qwen3moe, odd + 1, 1) == LB_E_UNSUPPORTED);
    CHECK(strstr(err.msg, "multiples of 128"));
    lb_arena_reset(&perm);
}

/* No family: names decide; towers stay, under whatever name. */
LB_TEST(unknown) {
    static const row rows[] = {
        {"model.visual.blocks.0.attn.qkv.weight", 256, 256, LB_HF_WHY_BESIDE},
        {"model.wte.weight", 320, 256, LB_HF_WHY_NO_MODULE},
        {"model.blocks.0.router.weight", 4, 256, LB_HF_WHY_ROUTER},
        {"model.blocks.0.ff.weight", 256, 256, LB_HF_WHY_DEFAULT},
        {"lm_head.weight", 320, 256, LB_HF_WHY_HEAD},
    };
    run r = {0};
    CHECK_OK(choose(&r, "w8a8", NULL, rows, LB_LEN(rows)));
    check_whys(&r, rows);
    CHECK(text_is(lb_json_get(r.config, "ignore"),
                  "[\"model.visual.blocks.0.attn.qkv\", \"model.blocks.0.router\", \"lm_head\", "
                  "\"re:(.*\\\\.)?visual\\\\..*\"]"));
    lb_arena_reset(&perm);
}

LB_TEST(overrides) {
    run r = {.overrides = {.arena = &perm, .find_type = lb_hf_type_find}};
    CHECK_OK(lb_override_add(&r.overrides, LB_STR("o_proj=w8a8"), false, &err));
    CHECK_OK(lb_override_add(&r.overrides, LB_STR("down_proj=f32"), false, &err));
    CHECK_OK(choose(&r, "w4a16", llama, dense, LB_LEN(dense)));
    CHECK(r.choices[5].quantized && r.choices[5].form.type == LB_HF_W8A8);
    CHECK(!r.choices[8].quantized && r.choices[8].dtype == LB_F32);
    CHECK(text_is(lb_json_get(r.config, "format"), "\"mixed-precision\""));
    CHECK(text_is(lb_json_path(r.config, "config_groups.group_1.targets"),
                  "[\"" LAYER "self_attn.o_proj\"]"));
    CHECK(text_is(lb_json_get(r.config, "ignore"), "[\"" LAYER "mlp.down_proj\", \"lm_head\"]"));
    CHECK(choose(&r, "fp8-block", llama, dense, LB_LEN(dense)) == LB_E_USAGE);
    CHECK(strstr(err.msg, "quant_method"));
    CHECK_OK(lb_override_add(&r.overrides, LB_STR("no_such=fp8"), false, &err));
    CHECK(choose(&r, "w4a16", llama, dense, LB_LEN(dense)) == LB_E_USAGE);
    CHECK(strstr(err.msg, "no_such"));
    lb_arena_reset(&perm);
}

LB_TEST(forms) {
    static const struct {
        const char *type;
        lb_hf_ask ask;
        bool ok;
    } list[] = {
        {"fp8", {.has_scope = true, .scope = LB_SCOPE_TENSOR}, true},
        {"fp8", {.has_scope = true, .scope = LB_SCOPE_GROUP, .group = 128}, false},
        {"fp8", {.asym = true}, false},
        {"fp8-block", {.has_scope = true, .scope = LB_SCOPE_CHANNEL}, false},
        {"w4a16", {.has_scope = true, .scope = LB_SCOPE_GROUP, .group = 32, .asym = true}, true},
        {"w4a16", {.has_scope = true, .scope = LB_SCOPE_GROUP, .group = 48}, false},
        {"w4a16", {.has_scope = true, .scope = LB_SCOPE_TENSOR}, false},
        {"w4a16", {.sym = true, .asym = true}, false},
        {"w8a8", {.has_scope = true, .scope = LB_SCOPE_CHANNEL, .sym = true}, true},
        {"w8a8", {.asym = true}, false},
        {"q4_k", {0}, false},
    };
    lb_hf_form f;
    for (u32 i = 0; i < LB_LEN(list); i++)
        CHECK((lb_hf_form_find(lb_str_c(list[i].type), &list[i].ask, &f, &err) == LB_OK) ==
              list[i].ok);
    CHECK(strstr(err.msg, "fp8 fp8-block w4a16 w8a8"));
}

LB_TEST(names_and_shapes) {
    static const lb_shape s = {2, {300, 256}};
    lb_shape out;
    run r = {.ask = {.asym = true}};
    const row one = {LAYER "mlp.up_proj.weight", 304, 256, LB_HF_WHY_DEFAULT};
    CHECK_OK(choose(&r, "w4a16", llama, &one, 1));
    const lb_hf_choice *c = &r.choices[0];
    CHECK(
        lb_str_eq_c(lb_hf_part_name(c, LB_QUANT_CODES, &perm), LAYER "mlp.up_proj.weight_packed"));
    CHECK(lb_str_eq_c(lb_hf_part_name(c, LB_QUANT_BIASES, &perm),
                      LAYER "mlp.up_proj.weight_zero_point"));
    lb_hf_part_shape(c, &s, LB_QUANT_CODES, &out);
    CHECK(out.dim[0] == 300 && out.dim[1] == 32);
    lb_hf_part_shape(c, &s, LB_QUANT_BIASES, &out);
    CHECK(out.dim[0] == 38 && out.dim[1] == 2 && lb_hf_has_shape(&c->form));
    r.ask = (lb_hf_ask){.has_scope = true, .scope = LB_SCOPE_TENSOR};
    CHECK_OK(choose(&r, "w8a8", llama, &one, 1));
    lb_hf_part_shape(c, &s, LB_QUANT_SCALES, &out);
    CHECK(out.rank == 1 && out.dim[0] == 1 && !lb_hf_has_shape(&c->form));
    lb_arena_reset(&perm);
}

/* The place among sorted keys, the text's own style. */
LB_TEST(config_text) {
    static const struct {
        const char *before, *after;
    } list[] = {
        {"{\n  \"a\": 1,\n  \"z\": {\n    \"q\": 2\n  }\n}\n",
         "{\n  \"a\": 1,\n  \"quant\": {\n    \"x\": 1\n  },\n  \"z\": {\n    \"q\": 2\n  }\n}\n"},
        {"{\n  \"z\": 1\n}", "{\n  \"quant\": {\n    \"x\": 1\n  },\n  \"z\": 1\n}"},
        {"{\n  \"z\": 1,\n  \"b\": 2\n}",
         "{\n  \"z\": 1,\n  \"b\": 2,\n  \"quant\": {\n    \"x\": 1\n  }\n}"},
        {"{\"a\": 1, \"b\": 2}", "{\"a\": 1, \"b\": 2, \"quant\": {\"x\": 1}}"},
        {"{}", "{\"quant\": {\"x\": 1}}"},
    };
    lb_json *v = NULL;
    CHECK_OK(lb_json_parse(LB_STR("{\"x\": 1}"), "value", &perm, &v, &err));
    for (u32 i = 0; i < LB_LEN(list); i++) {
        lb_buf b = {0};
        CHECK_OK(lb_arch_config_add(lb_str_c(list[i].before), "quant", v, &b, &err));
        if (!lb_str_eq_c(lb_buf_str(&b), list[i].after))
            lb_test_fail(__FILE__, __LINE__, "%.*s", LB_FMT(lb_buf_str(&b)));
        lb_buf_deinit(&b);
    }
    lb_arena_deinit(&perm);
}

LB_TEST_MAIN("fast")
