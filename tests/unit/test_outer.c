/* SPDX-License-Identifier: Apache-2.0 */
/* test_outer.c: classes that hold a language model beside other parts: the config by which it is
 * read, its names in every world, what becomes of the other parts, and that it is said. */
#include "arch/arch_internal.h"
#include "base/cpu.h"
#include "base/os.h"
#include "fake_model.h"
#include "ops/convert.h"
#include "ops/open.h"
#include "st_files.h"
#include "test.h"
#include <string.h>

static lb_arena arena;
static lb_err err;

static lb_json *parse(const char *text) {
    lb_json *v = NULL;
    if (lb_json_parse(lb_str_c(text), "test", &arena, &v, &err) != LB_OK)
        printf("    %s\n", err.msg);
    return v;
}

/* A config as checkpoints have it: the language model's fields that are its class's defaults are
 * left out. */
#define TEXT                                                                                    \
    "{\"hidden_size\": 32, \"intermediate_size\": 48, \"model_type\": \"gemma3_text\","         \
    "\"num_hidden_layers\": 1, \"num_attention_heads\": 2, \"num_key_value_heads\": 1,"         \
    "\"head_dim\": 16, \"vocab_size\": 4096, \"rope_scaling\": {\"factor\": 8.0, \"rope_type\"" \
    ": \"linear\"}, \"sliding_window\": 64, \"dtype\": \"bfloat16\"}"
#define OUTER(text)                                                                          \
    "{\"architectures\": [\"Gemma3ForConditionalGeneration\"], \"boi_token_index\": 255999," \
    "\"eos_token_id\": [1, 106], \"mm_tokens_per_image\": 4, \"model_type\": \"gemma3\","    \
    "\"text_config\": " text ", \"torch_dtype\": \"bfloat16\","                              \
    "\"vision_config\": {\"hidden_size\": 1152, \"num_hidden_layers\": 27, \"dtype\": "      \
    "\"bfloat16\","                                                                          \
    "\"model_type\": \"siglip_vision_model\"}}"

/* ---- configs ---- */

static u64 number(const lb_json *c, const char *path) {
    u64 n = 0;
    return lb_json_as_u64(lb_json_path(c, path), &n) ? n : 0;
}

LB_TEST(parameters) {
    const lb_arch *a;
    lb_hparams hp, alone;
    lb_arch_normal n;
    double theta = 0;
    CHECK_OK(lb_arch_from_config(parse(OUTER(TEXT)), &a, &hp, &err));
    CHECK_STR(lb_str_c(lb_arch_name(a)), "gemma3");
    CHECK(hp.outer && hp.tied && !hp.headless);
    CHECK_U64(hp.n_layers, 1);
    CHECK_U64(hp.head_dim, 16);
    CHECK_U64(hp.n_ctx, 131072); /* the class's default */
    CHECK_OK(lb_arch_from_config(parse(TEXT), &a, &alone, &err));
    hp.outer = NULL;
    CHECK(memcmp(&hp, &alone, sizeof hp) == 0);
    CHECK_OK(lb_arch_normalise(parse(OUTER(TEXT)), &arena, &n, &err));
    CHECK(lb_json_as_f64(lb_json_get(n.rope, "rope_theta"), &theta) && theta == 1e6);
    CHECK(lb_json_as_f64(lb_json_get(n.rope_local, "rope_theta"), &theta) && theta == 1e4);
    CHECK_U64(number(n.config, "mm_tokens_per_image"), 4);
    CHECK_U64(number(n.config, "image_token_index"), 262144);
}

/* Without its own type, or without any, the nested config is the language model's. */
LB_TEST(kinds_of_configs) {
    static const char *const texts[] = {
        "{\"model_type\": \"gemma3\"}",
        "{\"model_type\": \"gemma3\", \"text_config\": null}",
        "{\"architectures\": [\"Gemma3ForConditionalGeneration\"], \"model_type\": \"gemma3\","
        " \"text_config\": {\"architectures\": [\"Gemma3ForCausalLM\"]}}",
        "{\"architectures\": [\"Gemma3ForConditionalGeneration\"], \"model_type\": \"gemma3\","
        " \"tie_word_embeddings\": false, \"text_config\": {\"tie_word_embeddings\": true}}",
    };
    for (size_t i = 0; i < LB_LEN(texts); i++) {
        const lb_arch *a;
        lb_hparams hp;
        CHECK_OK(lb_arch_from_config(parse(texts[i]), &a, &hp, &err));
        CHECK(hp.outer && hp.tied == (i != 3));
        CHECK_U64(hp.n_layers, 26);
        CHECK_U64(hp.n_vocab, 262208);
    }
    /* a field of the wrong type: the JSON as it stands, which lacks the class's defaults */
    lb_arch_normal n;
    CHECK_OK(lb_arch_normalise(parse("{\"architectures\": [\"Gemma3ForConditionalGeneration\"],"
                                     "\"model_type\": \"gemma3\", \"mm_tokens_per_image\": 4.5,"
                                     "\"text_config\": {\"hidden_size\": 32}}"),
                               &arena, &n, &err));
    CHECK_U64(number(n.config, "hidden_size"), 32);
    CHECK(!lb_json_get(n.config, "num_hidden_layers"));
    /* the class says so, the config is the language model's own */
    const lb_arch *a;
    lb_hparams hp;
    CHECK_OK(lb_arch_from_config(parse("{\"architectures\": [\"Gemma3ForConditionalGeneration\"],"
                                       "\"model_type\": \"gemma3_text\"}"),
                                 &a, &hp, &err));
    CHECK(!hp.outer);
    CHECK_U64(lb_arch_from_config(
                  parse("{\"architectures\": [\"Gemma3ForConditionalGeneration\"], \"model_type\":"
                        " \"gemma3\", \"text_config\": {\"architectures\": [\"NoSuchModel\"]}}"),
                  &a, &hp, &err),
              LB_E_UNSUPPORTED);
    CHECK(strstr(err.msg, "NoSuchModel"));
}

LB_TEST(language_model_alone) {
    lb_buf b = {0}, again = {0};
    const lb_arch *a;
    lb_hparams hp;
    CHECK_OK(lb_arch_config_text(LB_STR(OUTER(TEXT)), &b, &err));
    lb_json *c = NULL;
    CHECK_OK(lb_json_parse(lb_buf_str(&b), "config.json", &arena, &c, &err));
    CHECK_OK(lb_arch_from_config(c, &a, &hp, &err));
    CHECK(!hp.outer && hp.tied);
    CHECK_U64(hp.n_layers, 1);
    lb_str s;
    CHECK(lb_json_as_str(lb_json_path(c, "model_type"), &s));
    CHECK_STR(s, "gemma3_text");
    CHECK(lb_json_as_str(lb_json_get(c, "architectures")->first, &s));
    CHECK_STR(s, "Gemma3ForCausalLM");
    CHECK(lb_json_get(c, "eos_token_id") && lb_json_get(c, "eos_token_id")->n == 2);
    CHECK(lb_json_get(c, "torch_dtype") && lb_json_get(c, "dtype"));
    CHECK(!lb_json_get(c, "vision_config") && !lb_json_get(c, "text_config") &&
          !lb_json_get(c, "mm_tokens_per_image") && !lb_json_get(c, "boi_token_index"));
    CHECK_OK(lb_arch_config_text(lb_buf_str(&b), &again, &err)); /* it stays as it is */
    CHECK(lb_str_eq(lb_buf_str(&b), lb_buf_str(&again)));
    bool tied = false;
    lb_buf_reset(&b); /* the outer class ties, whatever the inner config says */
    CHECK_OK(lb_arch_config_text(LB_STR(OUTER("{\"tie_word_embeddings\": false}")), &b, &err));
    CHECK_OK(lb_json_parse(lb_buf_str(&b), "config.json", &arena, &c, &err));
    CHECK(lb_json_as_bool(lb_json_get(c, "tie_word_embeddings"), &tied) && tied);
    lb_buf_deinit(&b);
    lb_buf_deinit(&again);
}

/* Mistral3ForConditionalGeneration holds a mistral or a ministral3; what the outer config says of
 * ties counts only where no output matrix is stored. */
LB_TEST(two_families) {
    static const struct {
        const char *outer, *text, *family;
        bool tied, may_tie;
    } rows[] = {
        {"", "", "mistral3", false, true},
        {"", "\"model_type\": \"mistral\"", "mistral3", false, true},
        {"", "\"model_type\": \"ministral3\"", "ministral3", false, true},
        {"\"tie_word_embeddings\": false,", "\"model_type\": \"ministral3\"", "ministral3", false,
         false},
        {"\"tie_word_embeddings\": false,", "\"tie_word_embeddings\": true", "mistral3", true,
         false},
        {"\"tie_word_embeddings\": true,", "\"tie_word_embeddings\": false", "mistral3", false,
         true},
        {"\"vision_feature_layer\": -1.5,",
         "\"hidden_size\": 64, \"num_hidden_layers\": 2, "
         "\"intermediate_size\": 96, \"num_attention_heads\": 2, \"vocab_size\": 384",
         "mistral3", false, true}, /* the JSON as it stands */
        {"", "\"model_type\": \"mistral4\"", NULL, false, false},
    };
    for (size_t i = 0; i < LB_LEN(rows); i++) {
        const lb_arch *a = NULL;
        lb_hparams hp = {0};
        lb_buf b = {0};
        lb_json *c = NULL;
        bool tied = false;
        lb_str out,
            text = lb_arena_printf(&arena,
                                   "{\"architectures\": [\"Mistral3ForConditionalGeneration\"], "
                                   "%s \"model_type\": \"mistral3\", \"text_config\": {%s}}",
                                   rows[i].outer, rows[i].text);
        lb_status st = lb_arch_from_config(parse(text.ptr), &a, &hp, &err);
        if (!rows[i].family) {
            CHECK(st == LB_E_UNSUPPORTED && strstr(err.msg, "mistral4"));
            continue;
        }
        CHECK_OK(st);
        CHECK_STR(lb_str_c(a->family), rows[i].family);
        CHECK_STR(lb_str_c(a->gguf), "mistral3");
        CHECK(hp.tied == rows[i].tied && hp.may_tie == rows[i].may_tie);
        CHECK_OK(lb_arch_config_tied(text, &hp, &arena, &out, &err));
        CHECK(lb_str_eq(out, text)); /* an output matrix is there, or the config says it all */
        hp.tied = true;
        CHECK_OK(lb_arch_config_tied(text, &hp, &arena, &out, &err));
        CHECK_OK(lb_arch_config_text(out, &b, &err));
        CHECK_OK(lb_json_parse(lb_buf_str(&b), "config.json", &arena, &c, &err));
        lb_json_as_bool(lb_json_get(c, "tie_word_embeddings"), &tied);
        CHECK(tied == (rows[i].tied || rows[i].may_tie));
        CHECK(!lb_json_get(c, "vision_feature_layer"));
        lb_buf_deinit(&b);
    }
}

static lb_json *to_mlx(const char *config, lb_buf *b) {
    lb_json *c = NULL;
    lb_buf_reset(b);
    if (lb_arch_config_to_mlx(lb_str_c(config), NULL, NULL, b, &err) == LB_OK)
        (void)lb_json_parse(lb_buf_str(b), "config.json", &arena, &c, &err);
    return c;
}

/* mlx-lm's outer class has a vocabulary of its own, and other defaults for heads. */
LB_TEST(config_for_mlx) {
    lb_buf b = {0};
    const lb_json *c = to_mlx(OUTER(TEXT), &b);
    CHECK_U64(number(c, "vocab_size"), 4096);
    CHECK(!lb_json_get(c, "vision_config"));
    CHECK(lb_json_path(c, "text_config.rope_scaling.factor"));
    CHECK_U64(number(c, "text_config.num_key_value_heads"), 1);
    c = to_mlx(OUTER("{\"num_hidden_layers\": 3}"), &b);
    CHECK(c && !lb_json_get(c, "vocab_size"));                  /* as mlx-lm has it */
    CHECK(!lb_json_path(c, "text_config.num_key_value_heads")); /* 4, as there */
    CHECK_U64(number(c, "text_config.hidden_size"), 2304);      /* not 1152 */
    CHECK_U64(number(c, "text_config.intermediate_size"), 9216);
    /* transformers goes by the outer config, mlx-lm by the inner one */
    static const char *const ties[][2] = {{"true", "false"}, {"false", "true"}};
    for (size_t i = 0; i < LB_LEN(ties); i++) {
        bool tied = false;
        lb_str text = lb_arena_printf(&arena,
                                      "{\"model_type\": \"qwen3_5\", \"tie_word_embeddings\": %s, "
                                      "\"text_config\": {\"tie_word_embeddings\": %s}}",
                                      ties[i][0], ties[i][1]);
        c = to_mlx(text.ptr, &b);
        CHECK(lb_json_as_bool(lb_json_path(c, "text_config.tie_word_embeddings"), &tied));
        CHECK(tied == (i == 0));
    }
    lb_buf_deinit(&b);
}

/* A cast says its type in the nested configs too. */
LB_TEST(config_for_hf) {
    lb_buf b = {0};
    lb_json *c = NULL;
    lb_str s[4];
    CHECK_OK(lb_arch_config_to_hf(LB_STR(OUTER(TEXT)), LB_F16, 0, &b, &err));
    CHECK_OK(lb_json_parse(lb_buf_str(&b), "config.json", &arena, &c, &err));
    CHECK(lb_json_as_str(lb_json_path(c, "text_config.dtype"), &s[0]) &&
          lb_json_as_str(lb_json_path(c, "vision_config.dtype"), &s[1]) &&
          lb_json_as_str(lb_json_path(c, "torch_dtype"), &s[2]) &&
          lb_json_as_str(lb_json_path(c, "vision_config.model_type"), &s[3]));
    for (int i = 0; i < 3; i++)
        CHECK_STR(s[i], "float16");
    CHECK_STR(s[3], "siglip_vision_model");
    lb_buf_reset(&b);
    static const char odd[] =
        " { \"a_config\" : { \"dtype\":null,\"quantization_config\":{\"x\":[1]}"
        " , \"b\" :[ {} ] } ,\"dtype\" : \"x\" } \n";
    CHECK_OK(lb_arch_config_to_hf(lb_str_c(odd), LB_F32, 0, &b, &err));
    CHECK_STR(lb_buf_str(&b), " { \"a_config\" : { \"dtype\":null , \"b\" :[ {} ] } ,\"dtype\" : "
                              "\"float32\" } \n");
    lb_buf_deinit(&b);
}

/* ---- names ---- */

LB_TEST(names) {
    const lb_arch *a;
    lb_hparams hp;
    CHECK_OK(lb_arch_from_config(parse(OUTER(TEXT)), &a, &hp, &err));
    static const struct {
        const char *stored, *inner, *mlx;
        lb_extra extra;
    } cases[] = {
        {"language_model.model.norm.weight", "model.norm.weight",
         "language_model.model.norm.weight", LB_EXTRA_NONE},
        {"model.language_model.norm.weight", "model.norm.weight",
         "language_model.model.norm.weight", LB_EXTRA_NONE},
        {"language_model.lm_head.weight", "lm_head.weight", "language_model.lm_head.weight",
         LB_EXTRA_NONE},
        {"lm_head.weight", "lm_head.weight", "language_model.lm_head.weight", LB_EXTRA_NONE},
        {"vision_tower.x", NULL, NULL, LB_EXTRA_VISION},
        {"model.vision_tower.x", NULL, NULL, LB_EXTRA_VISION},
        {"multi_modal_projector.y", NULL, NULL, LB_EXTRA_VISION},
        {"model.multi_modal_projector.y", NULL, NULL, LB_EXTRA_VISION},
        {"vision_towers.x", "vision_towers.x", "language_model.vision_towers.x", LB_EXTRA_NONE},
    };
    for (size_t i = 0; i < LB_LEN(cases); i++) {
        lb_str name = lb_str_c(cases[i].stored);
        CHECK(lb_arch_find_extra(&hp, name) == cases[i].extra);
        if (!cases[i].inner)
            continue;
        name = lb_arch_inner_name(&hp, name, &arena);
        CHECK_STR(name, cases[i].inner);
        CHECK_STR(lb_arch_outer_name(&hp, LB_WORLD_HF, name, &arena), cases[i].inner);
        CHECK_STR(lb_arch_outer_name(&hp, LB_WORLD_MLX, name, &arena), cases[i].mlx);
    }
    hp.outer = NULL; /* a language model alone */
    CHECK(lb_arch_find_extra(&hp, LB_STR("vision_tower.x")) == LB_EXTRA_NONE);
    CHECK_STR(lb_arch_outer_name(&hp, LB_WORLD_MLX, LB_STR("lm_head"), &arena), "lm_head");
}

/* ---- conversions ---- */

#define L "model.layers.0."
#define LAYER(p)                                                                                \
    p L "input_layernorm.weight BF16 32;" p L "post_attention_layernorm.weight BF16 32;" p L    \
        "pre_feedforward_layernorm.weight BF16 32;" p L                                         \
        "post_feedforward_layernorm.weight BF16 32;" p L "self_attn.q_norm.weight BF16 16;" p L \
        "self_attn.k_norm.weight BF16 16;" p L "self_attn.q_proj.weight BF16 32 32;" p L        \
        "self_attn.k_proj.weight BF16 16 32;" p L "self_attn.v_proj.weight BF16 16 32;" p L     \
        "self_attn.o_proj.weight BF16 32 32;" p L "mlp.gate_proj.weight BF16 48 32;" p L        \
        "mlp.up_proj.weight BF16 48 32;" p L "mlp.down_proj.weight BF16 32 48;" p               \
        "model.norm.weight BF16 32;" p "model.embed_tokens.weight BF16 4096 32"
#define TOWER                                                                     \
    ";multi_modal_projector.mm_input_projection_weight F32 8 32;"                 \
    "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight F32 8 8;" \
    "vision_tower.vision_model.embeddings.patch_embedding.weight F32 8 3 14 14"
#define N_TEXT 15
#define N_ALL 18

static const char *model(const char *config, const char *tensors) {
    const char *dir = st_dir("model");
    st_text(dir, "config.json", config);
    st_text(dir, "preprocessor_config.json", "{}");
    if (fm_write_tokenizer(dir, &(fm_tok){.n_vocab = 4096, .bytes = true}, &err) != LB_OK)
        printf("    %s\n", err.msg);
    st_file(dir, "model.safetensors", "pt", tensors);
    return dir;
}

static const char *both(void) {
    return model(OUTER(TEXT), LAYER("language_model.") TOWER);
}

typedef struct run_opts {
    lb_to to;
    u8 vision;
    bool cast;
} run_opts;

static char said[4096]; /* the remarks of the last conversion */

static lb_status convert(const char *in, const char *out, run_opts r) {
    static const char *const pre[] = {"tokenizer.ggml.pre=str:gpt-2"};
    lb_kernels k;
    lb_source *s = NULL;
    lb_buf plan = {0}, remarks = {0};
    lb_out_report report;
    lb_kernels_init(&k, lb_cpu_isa());
    lb_convert_opts o = {.verb = "convert",
                         .set = pre,
                         .n_set = r.to == LB_TO_GGUF,
                         .cast = r.cast,
                         .dtype = LB_F16,
                         .keep = {[LB_EXTRA_VISION] = r.vision, [LB_EXTRA_AUDIO] = r.vision},
                         .w = {.to = r.to,
                               .kernels = &k,
                               .output = out,
                               .no_sync = true,
                               .force = true,
                               .memory_bytes = 64 * LB_MIB,
                               .threads = 1}};
    err = (lb_err){0};
    lb_status st = lb_open(&s, in, &err);
    if (st == LB_OK)
        st = lb_convert(s, &o, &plan, &remarks, &report, &err);
    (void)snprintf(said, sizeof said, "%.*s", LB_FMT(lb_buf_str(&remarks)));
    lb_source_close(&s);
    lb_buf_deinit(&plan);
    lb_buf_deinit(&remarks);
    return st;
}

/* n tensors, one of them of that name; the config's class. */
static bool holds(const char *path, u64 n, const char *name, const char *class_name) {
    lb_source *s = NULL;
    bool ok = lb_open(&s, path, &err) == LB_OK && s->n_tensors == n &&
              lb_source_tensor(s, lb_str_c(name)) != NULL;
    if (!ok)
        printf("    %s: %llu tensors: %s\n", path, s ? (unsigned long long)s->n_tensors : 0,
               err.msg);
    if (ok && class_name) {
        lb_json *c = NULL;
        ok = lb_json_parse(s->config, "config.json", &arena, &c, &err) == LB_OK &&
             lb_str_eq_c(lb_arch_first_class(c), class_name);
    }
    lb_source_close(&s);
    return ok;
}

static const char *out_path(const char *name) {
    return st_path(lb_test_dir(), name);
}

#define OUTER_CLASS "Gemma3ForConditionalGeneration"
#define LEFT_OUT "left out: vision: 3 tensors, 5024 parameters ("

LB_TEST(left_out_of_gguf) {
    const char *out = out_path("g.gguf"), *back = out_path("back");
    CHECK_OK(convert(both(), out, (run_opts){LB_TO_GGUF, 0, false}));
    CHECK(strstr(said, LEFT_OUT "the target has no place for them)"));
    CHECK(holds(out, N_TEXT, "blk.0.post_ffw_norm.weight", NULL));
    CHECK_OK(convert(out, back, (run_opts){LB_TO_HF, 0, false}));
    CHECK(holds(back, N_TEXT, "model.layers.0.mlp.up_proj.weight", "Gemma3ForCausalLM"));
    CHECK_OK(convert(both(), out, (run_opts){LB_TO_GGUF, LB_KEEP_DROP, false}));
    CHECK(strstr(said, LEFT_OUT "--vision drop)"));
    CHECK_U64(convert(both(), out, (run_opts){LB_TO_GGUF, LB_KEEP_KEEP, false}), LB_E_UNSUPPORTED);
    CHECK(strstr(err.msg, "--vision keep: the vision part of the model has no place"));
}

LB_TEST(left_out_of_mlx) {
    const char *mlx = out_path("mlx"), *back = out_path("back"), *gguf = out_path("m.gguf");
    CHECK_OK(convert(both(), mlx, (run_opts){LB_TO_MLX, 0, false}));
    CHECK(strstr(said, LEFT_OUT));
    CHECK(holds(mlx, N_TEXT, "language_model.model.layers.0.mlp.up_proj.weight", OUTER_CLASS));
    CHECK_OK(convert(mlx, back, (run_opts){LB_TO_HF, 0, false}));
    CHECK(said[0] == 0 || !strstr(said, "vision:"));
    CHECK(holds(back, N_TEXT, "model.layers.0.mlp.up_proj.weight", "Gemma3ForCausalLM"));
    CHECK_OK(convert(mlx, gguf, (run_opts){LB_TO_GGUF, 0, false}));
    CHECK(holds(gguf, N_TEXT, "blk.0.ffn_up.weight", NULL));
    CHECK_U64(convert(both(), mlx, (run_opts){LB_TO_MLX, LB_KEEP_KEEP, false}), LB_E_UNSUPPORTED);
}

LB_TEST(kept_in_hf) {
    const char *out = out_path("hf");
    for (int cast = 0; cast < 2; cast++) {
        CHECK_OK(convert(both(), out, (run_opts){LB_TO_HF, LB_KEEP_KEEP, cast != 0}));
        CHECK(!strstr(said, "left out"));
        CHECK(holds(out, N_ALL, "language_model.model.norm.weight", OUTER_CLASS));
        CHECK(lb_os_exists(st_path(out, "preprocessor_config.json")));
        CHECK_OK(convert(both(), out, (run_opts){LB_TO_HF, LB_KEEP_DROP, cast != 0}));
        CHECK(strstr(said, LEFT_OUT "--vision drop)"));
        CHECK(strstr(said, "left out: preprocessor_config.json"));
        CHECK(holds(out, N_TEXT, "model.norm.weight", "Gemma3ForCausalLM"));
        CHECK(!lb_os_exists(st_path(out, "preprocessor_config.json")));
    }
}

/* Codes that are copied are still what the config says they are, whatever is dropped from a model
 * that does not have it; names in the config are not those of the language model's own class. */
LB_TEST(codes_in_hf) {
#define CODES \
    "\"quantization_config\": {\"quant_method\": \"fp8\", \"weight_block_size\": [128, 128]}"
    static const char alone[] = "{\"architectures\": [\"Gemma3ForCausalLM\"], \"hidden_size\": 32, "
                                "\"intermediate_size\": 48, \"model_type\": \"gemma3_text\", "
                                "\"num_hidden_layers\": 1, \"num_attention_heads\": 2, "
                                "\"num_key_value_heads\": 1, \"head_dim\": 16, " CODES "}";
    static const char outer[] = "{\"architectures\": [\"" OUTER_CLASS "\"], \"model_type\": "
                                "\"gemma3\", \"text_config\": " TEXT ", " CODES "}";
    static const char head[] = ";lm_head.weight F8_E4M3 4096 32;lm_head.weight_scale_inv F32 32 1";
    const char *out = out_path("hf");
    lb_source *s = NULL;
    lb_json *c = NULL;
    lb_str tensors = lb_arena_printf(&arena, "%s%s", LAYER(""), head);
    CHECK_OK(convert(model(alone, tensors.ptr), out, (run_opts){LB_TO_HF, LB_KEEP_DROP, false}));
    CHECK_OK(lb_open(&s, out, &err));
    const lb_tensor *t = lb_source_tensor(s, LB_STR("lm_head.weight"));
    CHECK(t && t->dtype == LB_F8_E4M3);
    CHECK_OK(lb_json_parse(s->config, "config.json", &arena, &c, &err));
    CHECK(lb_json_path(c, "quantization_config.weight_block_size"));
    lb_source_close(&s);
    tensors = lb_arena_printf(&arena, "%s%s", LAYER("language_model.") TOWER, head);
    const char *in = model(outer, tensors.ptr);
    CHECK_OK(convert(in, out, (run_opts){LB_TO_HF, LB_KEEP_KEEP, false}));
    CHECK_U64(convert(in, out, (run_opts){LB_TO_HF, LB_KEEP_DROP, false}), LB_E_UNSUPPORTED);
    CHECK(strstr(err.msg, "the names change"));
}

/* The names that transformers has in memory, and a model without its tower. */
LB_TEST(other_names) {
    const char *out = out_path("g.gguf"), *mlx = out_path("mlx");
    const char *dir = model(OUTER(TEXT), "model.language_model.norm.weight BF16 32;"
                                         "model.vision_tower.x.weight F32 4 4");
    CHECK_U64(convert(dir, out, (run_opts){LB_TO_GGUF, 0, false}), LB_E_FORMAT);
    CHECK(strstr(err.msg, "incomplete"));
    CHECK_OK(convert(dir, mlx, (run_opts){LB_TO_MLX, 0, false}));
    CHECK(strstr(said, "left out: vision: 1 tensors, 16 parameters"));
    CHECK(holds(mlx, 1, "language_model.model.norm.weight", OUTER_CLASS));
    dir = model(OUTER(TEXT), LAYER("language_model."));
    CHECK_OK(convert(dir, out, (run_opts){LB_TO_GGUF, LB_KEEP_KEEP, false})); /* there is none */
    CHECK(holds(out, N_TEXT, "blk.0.ffn_up.weight", NULL));
    dir = model(OUTER(TEXT), LAYER("language_model.") ";something.else.weight F32 4 4");
    CHECK_U64(convert(dir, out, (run_opts){LB_TO_GGUF, 0, false}), LB_E_UNSUPPORTED);
    CHECK(strstr(err.msg, "something.else.weight"));
}

LB_TEST_MAIN("fast")
