/* SPDX-License-Identifier: Apache-2.0 */
/* test_recipe_mlx.c: how MLX folders are quantized, against what mlx-lm decided for the models of
 * tests/golden/family (tests/golden/quant/recipe_mlx.txt; make_recipe_mlx.py there says how its
 * lines read); names, refusals, overrides, entries of config.json. */
#include "arch/arch_mlx.h"
#include "base/hash.h"
#include "base/os.h"
#include "io/json.h"
#include "quant/mlx_recipe.h"
#include "test.h"
#include <stdlib.h>

static lb_err err;

/* ---- the golden file ---- */

typedef struct golden {
    lb_arena file, model, run; /* how long things live */
    lb_str name;               /* of the file in tests/golden/family */
    lb_json *cases;
    lb_json *config;
    const lb_arch *arch;
    lb_hparams hp;
    lb_mlx_tensor *tensors;
    u64 n;
    lb_mlx_choice *choice;
    lb_mlx_opts opts;
    lb_overrides overrides;
    lb_status status;
    lb_json *object;
    u64 n_models, n_runs, n_refused;
} golden;

static lb_str word(lb_str *line) {
    size_t end = line->len;
    (void)lb_str_find(*line, LB_STR(" "), &end);
    const lb_str w = lb_str_sub(*line, 0, end);
    *line = lb_str_sub(*line, LB_MIN(end + 1, line->len), line->len);
    return w;
}

static bool open_family(golden *g, lb_str name) {
    char path[128];
    lb_str text;
    lb_json *whole;
    if (lb_str_eq(g->name, name))
        return true;
    lb_arena_reset(&g->file);
    snprintf(path, sizeof path, "family/%.*s.json", LB_FMT(name));
    if (lb_os_read_file(lb_test_golden(path), 16 * LB_MIB, &g->file, &text, &err) != LB_OK ||
        lb_json_parse(text, path, &g->file, &whole, &err) != LB_OK)
        return false;
    g->name = lb_arena_str(&g->file, name);
    g->cases = lb_json_get(whole, "cases");
    return g->cases != NULL;
}

static void add_tensor(golden *g, lb_str name, const lb_json *of) {
    lb_mlx_tensor *t = &g->tensors[g->n++];
    *t = (lb_mlx_tensor){.name = name};
    CHECK(lb_dtype_find_safetensors(of->first->next->text, &t->stored));
    for (const lb_json *d = of->first->next->next->first; d; d = d->next)
        CHECK(lb_json_as_u64(d, &t->shape.dim[t->shape.rank++]));
}

/* Layer i of the name, and what stands around its number; false: it is of no layer. */
static bool in_layer(lb_str name, lb_str *before, u64 *layer, lb_str *after) {
    size_t at, end;
    if (!lb_str_find(name, LB_STR("layers."), &at))
        return false;
    *before = lb_str_sub(name, 0, at + 7);
    *after = lb_str_sub(name, at + 7, name.len);
    return lb_str_find(*after, LB_STR("."), &end) &&
           lb_str_to_u64(lb_str_sub(*after, 0, end), layer) &&
           (*after = lb_str_sub(*after, end, after->len), true);
}

/* "FILE LABEL LAYERS" */
static bool read_model(golden *g, lb_str line) {
    const lb_str file = word(&line), label = word(&line);
    const lb_json *c;
    u64 layers, layer;
    lb_str before, after;
    if (!open_family(g, file) || !lb_str_to_u64(line, &layers))
        return false;
    for (c = g->cases->first; c && !lb_str_eq(lb_json_get(c, "label")->text, label);)
        c = c->next;
    const lb_json *mlx = c ? lb_json_get(c, "mlx") : NULL, *list = lb_json_get(mlx, "tensors");
    if (!list)
        return false;
    lb_arena_reset(&g->model);
    g->config = lb_json_get(mlx, "config");
    if (lb_arch_from_config(g->config, &g->arch, &g->hp, &err) != LB_OK)
        return false;
    const u64 have = g->hp.n_layers;
    g->hp.n_layers = layers;
    g->n = 0;
    g->tensors = lb_arena_new(&g->model, lb_mlx_tensor, list->n * (layers / have + 1));
    for (const lb_json *t = list->first; t && g->tensors; t = t->next) {
        add_tensor(g, t->first->text, t);
        for (u64 i = have; in_layer(t->first->text, &before, &layer, &after) && i < layers; i++)
            if (i % have == layer)
                add_tensor(g,
                           lb_arena_printf(&g->model, "%.*s%llu%.*s", LB_FMT(before),
                                           (unsigned long long)i, LB_FMT(after)),
                           t);
    }
    g->n_models++;
    return g->tensors != NULL;
}

/* Tensors are given in an order that is not mlx-lm's. */
static void shuffle(golden *g) {
    for (u64 i = g->n; i > 1; i--) {
        const u64 j = lb_test_rand_below(i);
        const lb_mlx_tensor t = g->tensors[j];
        g->tensors[j] = g->tensors[i - 1];
        g->tensors[i - 1] = t;
    }
}

static bool run(golden *g, lb_str line) {
    u64 group = 0;
    size_t slash;
    lb_arena_reset(&g->run);
    g->overrides = (lb_overrides){.arena = &g->run, .find_type = lb_mlx_type_find};
    g->opts = (lb_mlx_opts){.overrides = &g->overrides};
    g->choice = lb_arena_new(&g->run, lb_mlx_choice, g->n);
    lb_str type = word(&line);
    g->opts.pure = lb_str_eq_c(type, "pure");
    if (g->opts.pure)
        type = word(&line);
    slash = type.len;
    if (lb_str_find(type, LB_STR("/"), &slash) &&
        !lb_str_to_u64(lb_str_sub(type, slash + 1, type.len), &group))
        return false;
    if (!g->choice ||
        lb_mlx_opts_find(lb_str_sub(type, 0, slash), (u32)group, &g->opts, &err) != LB_OK)
        return false;
    while (line.len)
        if (lb_override_add(&g->overrides, word(&line), false, &err) != LB_OK)
            return false;
    shuffle(g);
    const lb_mlx_job job = {&g->opts, g->arch, &g->hp, g->n, g->tensors};
    g->status = lb_mlx_choose(&job, g->choice, &err);
    g->n_runs++;
    return g->status != LB_OK ||
           lb_mlx_quantization(&job, g->choice, lb_json_get(g->config, "quantization"), &g->run,
                               &g->object, &err) == LB_OK;
}

static int by_path(const void *a, const void *b) {
    const lb_mlx_choice *const *x = a, *const *y = b;
    return lb_str_cmp((*x)->path, (*y)->path);
}

static lb_str show(golden *g, const lb_mlx_choice *ch) {
    if (ch->enc.kind == LB_ENC_PLAIN)
        return LB_STR("-");
    return ch->enc.kind == LB_ENC_MLX_AFFINE
               ? lb_arena_printf(&g->run, "%u/%u", ch->enc.bits, ch->enc.group_size)
               : lb_str_c(lb_mlx_mode_name(ch->enc.kind));
}

/* "4/32*3 - 8/64" */
static bool check_types(golden *g, lb_str line, lb_str what) {
    const lb_mlx_choice **list = lb_arena_new(&g->run, const lb_mlx_choice *, g->n + 1);
    u64 n = 0, at = 0, times;
    if (g->status != LB_OK)
        lb_test_fail(__FILE__, __LINE__, "%.*s: %s", LB_FMT(what), err.msg);
    for (u64 i = 0; i < g->n && g->status == LB_OK; i++)
        if (g->choice[i].why != LB_MLX_WHY_NO_MODULE && g->choice[i].why != LB_MLX_WHY_CODES)
            list[n++] = &g->choice[i];
    qsort(list, (size_t)n, sizeof(const lb_mlx_choice *), by_path);
    while (line.len) {
        const lb_str one = word(&line);
        size_t star = one.len;
        times = 1;
        if (lb_str_find(one, LB_STR("*"), &star) &&
            !lb_str_to_u64(lb_str_sub(one, star + 1, one.len), &times))
            return false;
        for (; times && at < n; times--, at++)
            if (!lb_str_eq(show(g, list[at]), lb_str_sub(one, 0, star)))
                lb_test_fail(__FILE__, __LINE__, "%.*s %.*s, '%.*s': %.*s, expected %.*s",
                             LB_FMT(g->name), LB_FMT(what), LB_FMT(list[at]->path),
                             LB_FMT(show(g, list[at])), (int)star, one.ptr);
        if (times)
            return false;
    }
    return at == n;
}

static void check_object(golden *g, lb_str want, lb_str what) {
    char hex[65];
    lb_sha256 sha;
    lb_buf b = {0};
    lb_json_write(&b, g->object, (lb_json_style){.compact = true});
    lb_sha256_init(&sha);
    lb_sha256_update(&sha, b.ptr, b.len);
    lb_sha256_hex(&sha, hex);
    if (!lb_str_eq((lb_str){hex, 16}, want))
        lb_test_fail(__FILE__, __LINE__, "%.*s %.*s: config.json has %.*s", LB_FMT(g->name),
                     LB_FMT(what), LB_FMT(lb_buf_str(&b)));
    lb_buf_deinit(&b);
}

LB_TEST(as_mlx_lm) {
    static golden g;
    lb_arena perm = {0};
    lb_str rest, what = LB_STR_NONE;
    CHECK_OK(lb_os_read_file(lb_test_golden("quant/recipe_mlx.txt"), LB_MIB, &perm, &rest, &err));
    while (rest.len) {
        size_t end = rest.len;
        (void)lb_str_find(rest, LB_STR("\n"), &end);
        lb_str line = lb_str_sub(rest, 0, end);
        rest = lb_str_sub(rest, LB_MIN(end + 1, rest.len), rest.len);
        const bool comment = lb_str_starts(line, LB_STR("# mlx-lm "));
        const lb_str head = word(&line);
        if (lb_str_eq_c(head, "model")) {
            CHECK(read_model(&g, line));
        } else if (lb_str_eq_c(head, "run")) {
            what = line;
            CHECK(run(&g, line));
        } else if (lb_str_eq_c(head, "=")) {
            CHECK(check_types(&g, line, what));
        } else if (lb_str_eq_c(head, "!")) {
            g.n_refused++;
            CHECK(g.status == LB_E_UNSUPPORTED);
        } else if (!comment) {
            check_object(&g, line, what);
        }
    }
    CHECK(g.n_models >= 179 && g.n_runs >= 934 && g.n_refused >= 29);
    lb_arena_deinit(&g.file);
    lb_arena_deinit(&g.model);
    lb_arena_deinit(&g.run);
    lb_arena_deinit(&perm);
}

/* ---- names ---- */

LB_TEST(names) {
    static const struct {
        const char *name;
        u32 group;
        lb_enc_kind kind;
        u32 bits, size, low, high;
    } good[] = {
        {"mlx-q4", 0, LB_ENC_MLX_AFFINE, 4, 64, 0, 0},
        {"mlx-q1", 128, LB_ENC_MLX_AFFINE, 1, 128, 0, 0},
        {"mlx-q8", 32, LB_ENC_MLX_AFFINE, 8, 32, 0, 0},
        {"mlx-mxfp4", 0, LB_ENC_MLX_MXFP4, 4, 32, 0, 0},
        {"mlx-mxfp8", 32, LB_ENC_MLX_MXFP8, 8, 32, 0, 0},
        {"mlx-nvfp4", 16, LB_ENC_MLX_NVFP4, 4, 16, 0, 0},
        {"mlx-mixed_2_6", 0, LB_ENC_MLX_AFFINE, 4, 64, 2, 6},
        {"mlx-mixed_3_4", 32, LB_ENC_MLX_AFFINE, 4, 32, 3, 4},
    };
    static const struct {
        const char *name;
        u32 group;
        const char *words;
    } bad[] = {
        {"mlx-q7", 0, "'mlx-q7' is no type or recipe of MLX: choose one of mlx-q1 mlx-q2"},
        {"q4_k", 0, "mlx-nvfp4 mlx-mixed_2_6 mlx-mixed_3_4 mlx-mixed_3_6 mlx-mixed_4_6"},
        {"bf16", 0, "'bf16' is no type or recipe"},
        {"", 0, "'' is no type"},
        {"mlx-q4", 16, "mlx-q4 has no groups of 16: choose 32, 64 or 128"},
        {"mlx-mxfp4", 64, "mlx-mxfp4 has no groups of 64: they have 32"},
        {"mlx-nvfp4", 32, "mlx-nvfp4 has no groups of 32: they have 16"},
        {"mlx-mixed_4_6", 16, "mlx-mixed_4_6 has no groups of 16"},
    };
    for (u32 i = 0; i < LB_LEN(good); i++) {
        lb_mlx_opts o = {.pure = true};
        CHECK_OK(lb_mlx_opts_find(lb_str_c(good[i].name), good[i].group, &o, &err));
        CHECK_U64(o.enc.kind, good[i].kind);
        CHECK_U64(o.enc.bits, good[i].bits);
        CHECK_U64(o.enc.group_size, good[i].size);
        CHECK_U64(o.low_bits, good[i].low);
        CHECK_U64(o.high_bits, good[i].high);
        CHECK_U64(o.group, good[i].group);
        CHECK(o.pure);
    }
    for (u32 i = 0; i < LB_LEN(bad); i++) {
        lb_mlx_opts o = {.low_bits = 77};
        CHECK(lb_mlx_opts_find(lb_str_c(bad[i].name), bad[i].group, &o, &err) == LB_E_USAGE);
        CHECK(strstr(err.msg, bad[i].words) != NULL);
        CHECK_U64(o.low_bits, 77);
    }
}

/* ---- a model of two layers ---- */

#define TENSOR(text, type, ...)                                                                \
    {                                                                                          \
        .name = LB_STR(text), .stored = LB_##type, .shape = {.rank = 2, .dim = {__VA_ARGS__} } \
    }

static const lb_mlx_tensor llama[] = {
    TENSOR("lm_head.weight", BF16, 96, 64),
    TENSOR("model.embed_tokens.weight", BF16, 96, 64),
    TENSOR("model.layers.0.input_layernorm.weight", F32, 1, 64),
    TENSOR("model.layers.0.mlp.down_proj.weight", BF16, 64, 96),
    TENSOR("model.layers.0.self_attn.q_proj.weight", BF16, 64, 64),
    TENSOR("model.layers.0.self_attn.q_proj.bias", BF16, 1, 64),
    TENSOR("model.layers.1.mlp.down_proj.weight", BF16, 64, 96),
    TENSOR("model.layers.1.self_attn.q_proj.weight", U32, 64, 8),
    TENSOR("vision_tower.patch.weight", BF16, 64, 64),
};

typedef struct fixture {
    lb_arena perm;
    lb_hparams hp;
    lb_overrides overrides;
    lb_mlx_opts opts;
    lb_mlx_job job;
    lb_mlx_choice choice[LB_LEN(llama)];
} fixture;

static void begin(fixture *f, const char *config, const char *type, u32 group) {
    lb_json *c;
    f->overrides = (lb_overrides){.arena = &f->perm, .find_type = lb_mlx_type_find};
    f->opts = (lb_mlx_opts){.overrides = &f->overrides};
    f->job = (lb_mlx_job){&f->opts, NULL, &f->hp, LB_LEN(llama), llama};
    CHECK_OK(lb_json_parse(lb_str_c(config), "config", &f->perm, &c, &err));
    CHECK_OK(lb_arch_from_config(c, &f->job.arch, &f->hp, &err));
    CHECK_OK(lb_mlx_opts_find(lb_str_c(type), group, &f->opts, &err));
}

#define LLAMA                                                                                     \
    "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_size\": 64," \
    "\"num_attention_heads\": 4, \"num_hidden_layers\": 2, \"vocab_size\": 96,"                   \
    "\"intermediate_size\": 96, \"tie_word_embeddings\": false}"

static void expect_object(fixture *f, const lb_json *kept, const char *want) {
    lb_json *o = NULL;
    lb_buf b = {0};
    CHECK_OK(lb_mlx_quantization(&f->job, f->choice, kept, &f->perm, &o, &err));
    lb_json_write(&b, o, (lb_json_style){.compact = true});
    if (!lb_str_eq_c(lb_buf_str(&b), want))
        lb_test_fail(__FILE__, __LINE__, "%.*s, expected %s", LB_FMT(lb_buf_str(&b)), want);
    lb_buf_deinit(&b);
}

LB_TEST(reasons) {
    static const lb_mlx_why want[] = {
        LB_MLX_WHY_DEFAULT, LB_MLX_WHY_DEFAULT, LB_MLX_WHY_NO_MODULE,
        LB_MLX_WHY_ROWS,    LB_MLX_WHY_DEFAULT, LB_MLX_WHY_NO_MODULE,
        LB_MLX_WHY_ROWS,    LB_MLX_WHY_CODES,   LB_MLX_WHY_NO_MODULE,
    };
    fixture f = {0};
    begin(&f, LLAMA, "mlx-q4", 0);
    CHECK_OK(lb_mlx_choose(&f.job, f.choice, &err));
    for (u32 i = 0; i < LB_LEN(want); i++) {
        CHECK_U64(f.choice[i].why, want[i]);
        CHECK((f.choice[i].enc.kind == LB_ENC_PLAIN) == (want[i] != LB_MLX_WHY_DEFAULT));
        CHECK_U64(f.choice[i].dtype, llama[i].stored);
    }
    expect_object(&f, NULL, "{\"group_size\":64,\"bits\":4,\"mode\":\"affine\"}");
    lb_arena_deinit(&f.perm);
}

/* Codes that stay have their own default, so that every other module needs an entry. */
LB_TEST(kept_codes) {
    fixture f = {0};
    lb_json *kept;
    begin(&f, LLAMA, "mlx-q8", 64);
    CHECK_OK(lb_json_parse(LB_STR("{\"group_size\":32,\"bits\":4,\"mode\":\"mxfp4\"}"), "kept",
                           &f.perm, &kept, &err));
    CHECK_OK(lb_mlx_choose(&f.job, f.choice, &err));
    expect_object(&f, kept,
                  "{\"group_size\":32,\"bits\":4,\"mode\":\"mxfp4\",\"model.embed_tokens\":"
                  "{\"group_size\":64,\"bits\":8,\"mode\":\"affine\"},"
                  "\"model.layers.0.self_attn.q_proj\":"
                  "{\"group_size\":64,\"bits\":8,\"mode\":\"affine\"},"
                  "\"lm_head\":{\"group_size\":64,\"bits\":8,\"mode\":\"affine\"}}");
    lb_arena_deinit(&f.perm);
}

LB_TEST(overrides) {
    fixture f = {0};
    begin(&f, LLAMA, "mlx-q4", 64);
    CHECK_OK(lb_override_add(&f.overrides, LB_STR("lm_head=mlx-q4"), false, &err));
    CHECK_OK(lb_override_add(&f.overrides, LB_STR("0\\.mlp=mlx-nvfp4"), false, &err));
    CHECK_OK(lb_override_add(&f.overrides, LB_STR("\\.1\\.mlp=mlx-q6"), false, &err));
    CHECK_OK(lb_override_add(&f.overrides, LB_STR("embed|q_proj\\.weight$=f16"), false, &err));
    CHECK_OK(lb_mlx_check_overrides(&f.job, &err));
    CHECK_OK(lb_mlx_choose(&f.job, f.choice, &err));
    CHECK_U64(f.choice[0].why, LB_MLX_WHY_OVERRIDE);
    CHECK(!f.choice[0].has_entry);
    CHECK_U64(f.choice[1].enc.kind, LB_ENC_PLAIN);
    CHECK_U64(f.choice[1].dtype, LB_F16);
    CHECK_U64(f.choice[3].enc.kind, LB_ENC_MLX_NVFP4); /* rows of 96 */
    CHECK_U64(f.choice[4].dtype, LB_F16);
    CHECK_U64(f.choice[6].why, LB_MLX_WHY_ROWS);
    CHECK_U64(f.choice[7].why, LB_MLX_WHY_CODES);
    expect_object(&f, NULL,
                  "{\"group_size\":64,\"bits\":4,\"mode\":\"affine\","
                  "\"model.layers.0.mlp.down_proj\":"
                  "{\"group_size\":16,\"bits\":4,\"mode\":\"nvfp4\"}}");
    const lb_enc q8 = {.kind = LB_ENC_MLX_AFFINE, .bits = 8, .group_size = 64};
    lb_mlx_choice_give(&f.opts, &q8, LB_MLX_WHY_RECIPE, &f.choice[4]);
    expect_object(&f, NULL,
                  "{\"group_size\":64,\"bits\":4,\"mode\":\"affine\","
                  "\"model.layers.0.self_attn.q_proj\":"
                  "{\"group_size\":64,\"bits\":8,\"mode\":\"affine\"},"
                  "\"model.layers.0.mlp.down_proj\":"
                  "{\"group_size\":16,\"bits\":4,\"mode\":\"nvfp4\"}}");
    lb_arena_deinit(&f.perm);
}

/* Layers are counted in the language model's own names, whatever stands before them. */
LB_TEST(towers) {
    static const lb_mlx_tensor with_tower[] = {
        TENSOR("vision_tower.a.b.7.down_proj.weight", BF16, 64, 64),
        TENSOR("model.layers.3.mlp.down_proj.weight", BF16, 64, 64),
        TENSOR("model.layers.4.mlp.down_proj.weight", BF16, 64, 64)};
    fixture f = {0};
    begin(&f, LLAMA, "mlx-mixed_3_6", 0);
    f.job.tensors = with_tower;
    f.job.n = LB_LEN(with_tower);
    f.hp.n_layers = 8;
    CHECK_OK(lb_mlx_choose(&f.job, f.choice, &err));
    CHECK_U64(f.choice[0].why, LB_MLX_WHY_NO_MODULE);
    CHECK_U64(f.choice[1].enc.bits, 6);
    CHECK_U64(f.choice[2].enc.bits, 3);
    f.job.n = 1;
    CHECK(lb_mlx_choose(&f.job, f.choice, &err) == LB_E_UNSUPPORTED);
    lb_arena_deinit(&f.perm);
}

LB_TEST(override_errors) {
    static const char *const bad[] = {"x=q4_k", "x=mlx-mixed_3_6", "x=mlx-q7", "x="};
    fixture f = {0};
    begin(&f, LLAMA, "mlx-nvfp4", 0);
    for (u32 i = 0; i < LB_LEN(bad); i++) {
        CHECK(lb_override_add(&f.overrides, lb_str_c(bad[i]), false, &err) == LB_E_USAGE);
        CHECK(strstr(err.msg, "choose one of mlx-q1 ") &&
              strstr(err.msg, "mlx-nvfp4 f32 f16 bf16"));
        CHECK(!strstr(err.msg, "mixed_2_6"));
    }
    /* only a norm has it: nothing that can be quantized */
    CHECK_OK(lb_override_add(&f.overrides, LB_STR("q_proj=mlx-q6"), false, &err));
    CHECK_OK(lb_override_add(&f.overrides, LB_STR("layernorm=mlx-q6"), false, &err));
    CHECK(lb_mlx_check_overrides(&f.job, &err) == LB_E_USAGE);
    CHECK(strstr(err.msg, "\"layernorm\": the pattern is in the name of no tensor that can be"));
    /* groups of the mode's own are not the override's; those that were asked for are */
    CHECK_OK(lb_mlx_choose(&f.job, f.choice, &err));
    CHECK_U64(f.choice[4].enc.group_size, 64);
    CHECK_U64(f.choice[4].enc.bits, 6);
    CHECK_OK(lb_mlx_opts_find(LB_STR("mlx-mxfp8"), 0, &f.opts, &err));
    CHECK_OK(lb_mlx_choose(&f.job, f.choice, &err));
    CHECK_U64(f.choice[4].enc.group_size, 64);
    CHECK_OK(lb_mlx_opts_find(LB_STR("mlx-mxfp8"), 32, &f.opts, &err));
    CHECK_OK(lb_mlx_choose(&f.job, f.choice, &err));
    CHECK_U64(f.choice[4].enc.group_size, 32);
    lb_arena_deinit(&f.perm);
}

LB_TEST(refusals) {
    static const lb_mlx_tensor odd[] = {
        TENSOR("model.layers.0.self_attn.o_proj.weight", BF16, 64, 96)};
    fixture f = {0};
    begin(&f, LLAMA, "mlx-mixed_2_6", 0);
    f.job.tensors = odd;
    f.job.n = 1;
    CHECK(lb_mlx_choose(&f.job, f.choice, &err) == LB_E_UNSUPPORTED);
    CHECK(strstr(err.msg, "'down_proj'"));
    begin(&f,
          "{\"architectures\": [\"GraniteForCausalLM\"], \"model_type\": \"granite\","
          "\"hidden_size\": 64, \"num_attention_heads\": 4, \"num_hidden_layers\": 2}",
          "mlx-q4", 32);
    f.job.tensors = odd;
    f.job.n = 1;
    CHECK(lb_mlx_choose(&f.job, f.choice, &err) == LB_E_UNSUPPORTED);
    CHECK(strstr(err.msg, "self_attn.o_proj.weight': rows of 96 are no multiple of 64"));
    CHECK_OK(lb_override_add(&f.overrides, LB_STR("o_proj=mlx-q8"), false, &err));
    CHECK_OK(lb_mlx_choose(&f.job, f.choice, &err));
    CHECK_U64(f.choice[0].enc.group_size, 32);
    f.opts.overrides = NULL;
    f.opts.pure = true;
    CHECK_OK(lb_mlx_choose(&f.job, f.choice, &err));
    CHECK_U64(f.choice[0].enc.bits, 4);
    lb_arena_deinit(&f.perm);
}

/* Every allocation may fail. */
LB_TEST(memory) {
    bool done = false;
    for (u64 n = 1; !done && n < 80; n++) {
        fixture f = {0};
        lb_json *o = NULL;
        begin(&f, LLAMA, "mlx-mixed_3_6", 32);
        lb_arena perm = {0};
        f.overrides.arena = &perm;
        const u64 before = lb_mem_count();
        lb_mem_fail_at(n);
        lb_status st = lb_override_add(&f.overrides, LB_STR("q_proj=mlx-mxfp8"), false, &err);
        if (st == LB_OK)
            st = lb_mlx_choose(&f.job, f.choice, &err);
        if (st == LB_OK)
            st = lb_mlx_quantization(&f.job, f.choice, NULL, &perm, &o, &err);
        lb_mem_fail_at(0);
        done = st == LB_OK && lb_mem_count() - before < n;
        if (st == LB_OK ? !o || o->n != 3 + 5 : st != LB_E_NOMEM)
            lb_test_fail(__FILE__, __LINE__, "allocation %llu: %s: %s", (unsigned long long)n,
                         lb_status_text(st), err.msg);
        lb_arena_deinit(&perm);
        lb_arena_deinit(&f.perm);
    }
    CHECK(done);
}

/* Numbers of layers are compared as numbers; unknown parts come last. */
LB_TEST(order) {
    static const char *const paths[] = {"model.embed_tokens",
                                        "model.layers.2.self_attn.q_proj",
                                        "model.layers.2.mlp.up_proj",
                                        "model.layers.2.new",
                                        "model.layers.10.mlp",
                                        "model.layers.10.mlp.down_proj",
                                        "model.new",
                                        "lm_head"};
    fixture f = {0};
    begin(&f, LLAMA, "mlx-q4", 0);
    for (u32 i = 0; i < LB_LEN(paths); i++)
        for (u32 j = 0; j < LB_LEN(paths); j++) {
            const int c = lb_arch_mlx_cmp(f.job.arch, lb_str_c(paths[i]), lb_str_c(paths[j]));
            CHECK((c < 0) == (i < j) && (c > 0) == (i > j));
        }
    lb_arena_deinit(&f.perm);
}

LB_TEST_MAIN("fast")
