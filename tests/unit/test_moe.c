/* SPDX-License-Identifier: Apache-2.0 */
/* test_moe.c: files of mergekit-moe: what is read of them, by which line and key each fault is
 * named, which kind of mixture fits (mergekit's choice, case by case), configs of the result. */
#include "arch/arch_config.h"
#include "merge/moe_result.h"
#include "test.h"

static lb_arena arena;
static lb_err err;
static lb_moe_config moe;

static const char *parse(const char *text) {
    lb_arena_reset(&arena);
    err = (lb_err){0};
    return lb_moe_config_parse(lb_str_c(text), "m.yml", &arena, &moe, &err) == LB_OK ? "" : err.msg;
}

static const char *check(const char *text, bool all_same) {
    const char *why = parse(text);
    if (!*why && lb_moe_config_check(&moe, all_same, &err) != LB_OK)
        why = err.msg;
    return why;
}

LB_TEST(what_a_file_says) {
    CHECK_STR(lb_str_c(parse("base_model: base\n"
                             "gate_mode: cheap_embed\n"
                             "dtype: bfloat16\n"
                             "experts_per_token: '1'\n"
                             "architecture: qwen\n"
                             "x-common: &common [a, b]\n"
                             "experts:\n"
                             "  - source_model: org/one@v2\n"
                             "    positive_prompts: *common\n"
                             "    noise_scale: 1e-2\n"
                             "  - source_model: {model: base}\n"
                             "    positive_prompts: [\"\"]\n"
                             "    negative_prompts: [c]\n"
                             "    residual_scale: 0.5\n"
                             "shared_experts:\n"
                             "  - source_model: base\n"
                             "tokenizer_source: base\n")),
              "");
    CHECK_U64(moe.refs.n_models, 2);
    CHECK_STR(moe.refs.models[0].text, "base");
    CHECK_STR(moe.refs.models[1].path, "org/one");
    CHECK_U64(moe.n_experts, 2);
    CHECK(moe.experts[0].model == 1 && moe.experts[1].model == 0 && moe.shared[0].model == 0);
    CHECK(moe.experts[0].n_positive == 2 && moe.experts[0].n_negative == 0);
    CHECK(moe.experts[1].n_positive == 1 && moe.experts[1].positive[0].len == 0);
    CHECK(moe.experts[0].noise_scale == 1e-2 && moe.experts[0].residual_scale == 1);
    CHECK(moe.experts[1].noise_scale == 0 && moe.experts[1].residual_scale == 0.5);
    CHECK(moe.gate == LB_MOE_CHEAP_EMBED && moe.experts_per_token == 1 && moe.n_shared == 1);
    CHECK(moe.refs.has_dtype && moe.refs.dtype == LB_BF16);
    CHECK_U64(moe.refs.n_notes, 1);
    CHECK_STR(moe.refs.notes[0], "m.yml: line 17: tokenizer_source: says nothing in a file of "
                                 "experts, as in mergekit-moe");
}

LB_TEST(faults_have_line_and_key) {
    static const char *const t[][2] = {
        {"- a", "m.yml: line 1: a mapping with the keys base_model, experts... is needed"},
        {"experts: []", "m.yml: line 1: `base_model` is missing"},
        {"base_model: a", "m.yml: line 1: `experts` is missing"},
        {"base_model: a\nexpert: []", "m.yml: line 2: expert: unknown key; did you mean experts?"},
        {"base_model: 7\nexperts: []", "m.yml: line 1: base_model: the name of a model is needed: "
                                       "put it into quotation marks"},
        {"base_model: a\nexperts: b", "m.yml: line 2: experts: a list of experts is needed"},
        {"base_model: a\nexperts:\n- positive_prompts: [x]",
         "m.yml: line 3: experts[0]: `source_model` is missing"},
        {"base_model: a\nexperts:\n- source_model: b\n  positive_prompts: x",
         "m.yml: line 4: experts[0].positive_prompts: a list of prompts is needed"},
        {"base_model: a\nexperts:\n- source_model: b\n  negative_prompts: [x, 1]",
         "m.yml: line 4: experts[0].negative_prompts[1]: a text is needed: put it into quotation "
         "marks"},
        {"base_model: a\nexperts:\n- {source_model: b, noise_scale: much}",
         "m.yml: line 3: experts[0].noise_scale: a finite number is needed"},
        {"base_model: a\nexperts:\n- {source_model: b, residual_scale: .inf}",
         "m.yml: line 3: experts[0].residual_scale: a finite number is needed"},
        {"base_model: a\nexperts: []\nexperts_per_token: 0",
         "m.yml: line 3: experts_per_token: a whole number from 1 is needed"},
        {"base_model: a\nexperts: []\ngate_mode: rendom",
         "m.yml: line 3: gate_mode: 'rendom' is none of hidden, hidden_avg, hidden_last, "
         "cheap_embed, random, uniform_random; did you mean random?"},
        {"base_model: a\nexperts: []\ndtype: bf16",
         "m.yml: line 3: dtype: 'bf16' is none of bfloat16, float16, float32, float64; did you "
         "mean bfloat16?"},
    };
    for (u32 i = 0; i < LB_LEN(t); i++)
        CHECK_STR(lb_str_c(parse(t[i][0])), t[i][1]);
}

#define HEAD "base_model: a\ngate_mode: "
#define ONE(model, prompts) "- {source_model: " model ", positive_prompts: [" prompts "]}\n"

LB_TEST(what_makes_no_useful_model) {
    static const char *const t[][2] = {
        {HEAD "cheap_embed\nexperts:\n" ONE("a", "x") ONE("b", "y"), ""},
        {HEAD "random\nexperts:\n" ONE("a", "") ONE("a", ""), ""},
        {HEAD "uniform_random\nexperts:\n- {source_model: a}\n- {source_model: b}", ""},
        {HEAD "cheap_embed\nexperts:\n" ONE("a", "x"),
         "m.yml: 1 experts, of which a token is to use 2 (experts_per_token)"},
        {HEAD "cheap_embed\nexperts:\n" ONE("a", "x") ONE("b", ""),
         "m.yml: line 5: experts[1]: positive_prompts is missing or empty: gate_mode cheap_embed "
         "makes the router of them"},
        {HEAD "cheap_embed\nexperts:\n" ONE("a", "x") ONE("b", "x"),
         "m.yml: line 4: experts: all have the same prompts: nothing tells which to choose"},
        {HEAD "cheap_embed\nexperts_per_token: 1\nexperts:\n" ONE("a", "x"),
         "m.yml: line 5: experts: one expert needs no prompts: use gate_mode random"},
        {HEAD "hidden_avg\nexperts:\n" ONE("a", "x") ONE("b", "x"),
         "m.yml: line 4: experts: all have the same prompts: nothing tells which to choose"},
        {HEAD "cheap_embed\nexperts:\n" ONE("a", "x")
             ONE("b", "y") "shared_experts:\n" ONE("a", "z") ONE("b", ""),
         "m.yml: line 8: shared_experts: some have prompts and some have not: all or none"},
    };
    for (u32 i = 0; i < LB_LEN(t); i++)
        CHECK_STR(lb_str_c(check(t[i][0], false)), t[i][1]);
    const char *same = HEAD "cheap_embed\nexperts:\n" ONE("a", "x") ONE("a", "y");
    CHECK_STR(lb_str_c(check(same, false)),
              "m.yml: line 4: experts: all are the same model, so the result gives what that "
              "gives: --i-understand-this-is-not-useful-without-training makes it");
    CHECK_STR(lb_str_c(check(same, true)), "");
}

/* As select_output_arch of mergekit 0.1.5 chooses; types of a, b. */
LB_TEST(which_kind_fits) {
    static const struct {
        const char *text, *types[2];
        int kind; /* -1: none */
        bool note;
    } t[] = {
        {"", {"llama", "llama"}, LB_MOE_MIXTRAL, false},
        {"", {"mistral", "mistral"}, LB_MOE_MIXTRAL, false},
        {"", {"llama", "mistral"}, -1, false},
        {"", {"qwen3", "qwen3"}, LB_MOE_QWEN3, false},
        {"", {"qwen2", "qwen2"}, -1, false},
        {"", {"gemma2", "gemma2"}, -1, false},
        {"architecture: deep\n", {"llama", "llama"}, LB_MOE_DEEPSEEK, false},
        {"architecture: QWEN\n", {"qwen3", "qwen3"}, LB_MOE_QWEN3, false},
        {"architecture: qwen3\n", {"llama", "llama"}, -1, false},
        {"shared_experts: [{source_model: a}]\n", {"llama", "llama"}, LB_MOE_DEEPSEEK, false},
        {"shared_experts: [{source_model: a, positive_prompts: [z]}]\n",
         {"llama", "llama"},
         LB_MOE_QWEN,
         false},
        {"shared_experts: [{source_model: a, positive_prompts: [z]}]\n",
         {"qwen2", "qwen2"},
         LB_MOE_QWEN,
         false},
        {"shared_experts: [{source_model: a}]\n", {"qwen2", "qwen2"}, -1, false},
        {"shared_experts: [{source_model: a}]\n", {"qwen3", "qwen3"}, -1, false},
        {"shared_experts: [{source_model: a}, {source_model: b}]\n", {"llama", "llama"}, -1, false},
    };
    for (u32 i = 0; i < LB_LEN(t); i++) {
        const char *note;
        char text[512];
        lb_moe_kind kind = LB_MOE_KIND_COUNT;
        (void)snprintf(text, sizeof text, "%s" HEAD "cheap_embed\nexperts:\n%s", t[i].text,
                       ONE("a", "x") ONE("b", "y"));
        const lb_str types[] = {lb_str_c(t[i].types[0]), lb_str_c(t[i].types[1])};
        CHECK_STR(lb_str_c(check(text, false)), "");
        lb_status st = lb_moe_choose(&moe, types, &arena, &kind, &note, &err);
        CHECK_U64(st == LB_OK ? kind : 99, t[i].kind < 0 ? 99 : (u64)t[i].kind);
        CHECK(st != LB_OK || !note == !t[i].note);
    }
    const lb_str llama[] = {LB_STR("llama"), LB_STR("llama")};
    const char *note;
    lb_moe_kind kind;
    CHECK_STR(lb_str_c(parse(HEAD "random\nexperts:\n" ONE("a", "")
                                 ONE("b", "") "shared_experts: [{source_model: a}]\n")),
              "");
    CHECK(lb_moe_choose(&moe, llama, &arena, &kind, &note, &err) == LB_OK);
    CHECK(kind == LB_MOE_DEEPSEEK && note); /* Qwen MoE would do as well */
}

static void config_of(lb_moe_kind k, const char *base, lb_json **out) {
    lb_json *config, *full;
    lb_str text = LB_STR("{}");
    const lb_moe_facts facts = {.n_ff = 160, .dtype = LB_STR("float16")};
    CHECK(lb_json_parse(lb_str_c(base), "base", &arena, &config, &err) == LB_OK);
    CHECK(lb_arch_config_full(config, &arena, &full, &err) == LB_OK);
    CHECK(lb_moe_config_json(&moe, k, &facts, full, &arena, &text, &err) == LB_OK);
    CHECK(lb_json_parse(text, "made", &arena, out, &err) == LB_OK);
}

static void has(const lb_json *config, const char *key, const char *want) {
    lb_buf b = {0};
    const lb_json *v = lb_json_get(config, key);
    if (v)
        lb_json_write(&b, v, (lb_json_style){.compact = true});
    else
        lb_buf_put_c(&b, "absent");
    CHECK_STR(lb_buf_str(&b), want);
    lb_buf_deinit(&b);
}

#define SIZES                                                                                \
    "\"hidden_size\": 64, \"intermediate_size\": 96, \"num_attention_heads\": 4, "           \
    "\"num_hidden_layers\": 2, \"vocab_size\": 96, \"quantization_config\": {\"bits\": 4}, " \
    "\"auto_map\": {\"AutoConfig\": \"x\"}, \"torch_dtype\": \"bfloat16\""

/* A config that leaves all to its class, whose values are then said: the result's class has others.
 */
LB_TEST(configs_of_the_result) {
    CHECK_STR(lb_str_c(parse(HEAD "random\nexperts_per_token: 1\nexperts:\n" ONE("a", "")
                                 ONE("b", "") ONE("a", ""))),
              "");
    lb_json *m;
    config_of(LB_MOE_MIXTRAL,
              "{\"architectures\": [\"LlamaForCausalLM\"], "
              "\"model_type\": \"llama\", " SIZES "}",
              &m);
    has(m, "architectures", "[\"MixtralForCausalLM\"]");
    has(m, "model_type", "\"mixtral\"");
    has(m, "num_local_experts", "3");
    has(m, "num_experts_per_tok", "1");
    has(m, "num_key_value_heads", "4");
    has(m, "rope_theta", "10000.0");
    has(m, "rms_norm_eps", "1e-06");
    has(m, "max_position_embeddings", "2048");
    has(m, "intermediate_size", "160");
    has(m, "sliding_window", "null");
    has(m, "torch_dtype", "\"float16\"");
    has(m, "auto_map", "absent");
    has(m, "quantization_config", "absent");
    lb_json *q;
    config_of(LB_MOE_QWEN,
              "{\"architectures\": [\"MistralForCausalLM\"], "
              "\"model_type\": \"mistral\", \"sliding_window\": 9, "
              "\"num_key_value_heads\": 2, \"rope_theta\": 5e5, " SIZES "}",
              &q);
    has(q, "num_experts", "3");
    has(q, "moe_intermediate_size", "160");
    has(q, "shared_expert_intermediate_size", "160");
    has(q, "norm_topk_prob", "true");
    has(q, "rope_theta", "5e5");
    has(q, "sliding_window", "null");
    lb_json *d;
    config_of(LB_MOE_DEEPSEEK,
              "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", "
              "\"rope_parameters\": {\"rope_type\": \"llama3\", \"rope_theta\": 7.0, "
              "\"factor\": 8.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, "
              "\"original_max_position_embeddings\": 64}, " SIZES "}",
              &d);
    has(d, "n_shared_experts", "null");
    has(d, "n_routed_experts", "3");
    has(d, "rope_theta", "7.0");
    has(lb_json_get(d, "rope_scaling"), "type", "\"llama3\"");
    has(lb_json_get(d, "rope_scaling"), "factor", "8.0");
    has(lb_json_get(d, "rope_scaling"), "rope_theta", "absent");
}

LB_TEST(files_are_told_apart) {
    CHECK(lb_moe_is_config(LB_STR("base_model: a\nexperts:\n- source_model: b\n")));
    CHECK(lb_moe_is_config(LB_STR("\"experts\": []")));
    CHECK(!lb_moe_is_config(LB_STR("models:\n  experts: 1\n# experts\n")));
    CHECK(!lb_moe_is_config(LB_STR("experts_per_token: 1\n")));
    CHECK(!lb_moe_is_config(LB_STR("")));
}

LB_TEST(every_prefix_and_memory) {
    const char *text = HEAD "cheap_embed\nexperts:\n" ONE("a", "x") ONE("{model: b, lora: c}", "y");
    for (size_t n = 0; n <= strlen(text); n++)
        for (u64 max = 0; max < 6000; max += n % 16 ? 6000 : 150) {
            lb_arena a = {.max_bytes = max};
            err = (lb_err){0};
            lb_status st = lb_moe_config_parse((lb_str){text, n}, "m.yml", &a, &moe, &err);
            CHECK(st == LB_OK || err.msg[0]);
            lb_arena_deinit(&a);
        }
    lb_arena_deinit(&arena);
}

LB_TEST_MAIN("fast")
