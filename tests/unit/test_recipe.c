/* SPDX-License-Identifier: Apache-2.0 */
/* test_recipe.c: recipes against what llama-quantize decided for models of real sizes
 * (tests/golden/quant/recipe.txt; make_recipe.py there says how its lines read), their names, their
 * errors, the patterns of overrides. */
#include "quant/recipe.h"
#include "quant/recipe_tables.h"
#include "test.h"
#include <stdlib.h>

#define TENSORS_MAX 1600
#define ROWS_MAX 32

static lb_err err;

/* ---- the golden file ---- */

typedef struct row {
    u64 first, n; /* of the list of tensors */
} row;

typedef struct golden {
    lb_arena perm;
    lb_recipe_model model;
    lb_recipe_tensor tensors[TENSORS_MAX];
    row rows[ROWS_MAX];
    u64 n_tensors, n_rows, n_runs;
    lb_recipe_opts opts;
    lb_overrides overrides;
    lb_dtype output, embedding;
    lb_recipe_choice choice[TENSORS_MAX];
    lb_status status;
} golden;

/* The next word of a line. */
static lb_str word(lb_str *line) {
    size_t i = 0, from;
    while (i < line->len && line->ptr[i] == ' ')
        i++;
    from = i;
    while (i < line->len && line->ptr[i] != ' ')
        i++;
    const lb_str w = lb_str_sub(*line, from, i);
    *line = lb_str_sub(*line, i, line->len);
    return w;
}

static u64 number(lb_str *line) {
    u64 v = 0;
    return lb_str_to_u64(word(line), &v) ? v : UINT64_MAX;
}

static void read_model(golden *g, lb_str line) {
    lb_arena_deinit(&g->perm);
    memset(g, 0, offsetof(golden, n_runs));
    g->model.arch = word(&line);
    g->model.n_layers = number(&line);
    g->model.n_mtp = number(&line);
    g->model.n_head = number(&line);
    g->model.n_head_kv = number(&line);
    g->model.n_expert = number(&line);
}

static bool read_row(golden *g, lb_str line) {
    lb_recipe_tensor t = {0};
    if (!lb_dtype_find(word(&line), &t.stored))
        return false;
    const u64 first = number(&line), last = number(&line);
    const lb_str name = word(&line);
    size_t hole = name.len;
    (void)lb_str_find(name, LB_STR("#"), &hole);
    while (line.len)
        t.shape.dim[t.shape.rank++] = number(&line);
    const u64 n = first == UINT64_MAX ? 1 : last - first + 1;
    if (g->n_rows == ROWS_MAX || g->n_tensors + n > TENSORS_MAX)
        return false;
    g->rows[g->n_rows++] = (row){g->n_tensors, n};
    for (u64 i = 0; i < n; i++) {
        t.name = hole == name.len ? name
                                  : lb_arena_printf(&g->perm, "%.*s%llu%.*s", (int)hole, name.ptr,
                                                    (unsigned long long)(first + i),
                                                    LB_FMT(lb_str_sub(name, hole + 1, name.len)));
        g->tensors[g->n_tensors++] = t;
    }
    return true;
}

static bool read_option(golden *g, lb_str name, lb_str *line) {
    if (lb_str_eq_c(name, "--pure"))
        return g->opts.pure = true;
    if (lb_str_eq_c(name, "--imatrix"))
        return g->opts.importance = true;
    if (lb_str_eq_c(name, "--leave-output-tensor"))
        return g->opts.keep_output = true;
    if (lb_str_eq_c(name, "--tensor-type"))
        return lb_override_add(&g->overrides, word(line), true, &err) == LB_OK;
    if (lb_str_eq_c(name, "--output-tensor-type")) {
        g->opts.output = &g->output;
        return lb_recipe_type_find(word(line), &g->output, &err) == LB_OK;
    }
    g->opts.embedding = &g->embedding;
    return lb_str_eq_c(name, "--token-embedding-type") &&
           lb_recipe_type_find(word(line), &g->embedding, &err) == LB_OK;
}

/* Tensors are given in an order that is not the visit's. */
static void shuffle(golden *g, u32 *from) {
    for (u64 i = 0; i < g->n_tensors; i++)
        from[i] = (u32)i;
    for (u64 i = g->n_tensors; i > 1; i--) {
        const u64 j = lb_test_rand_below(i);
        const u32 t = from[j];
        from[j] = from[i - 1];
        from[i - 1] = t;
    }
}

static bool run(golden *g, lb_str line) {
    static u32 from[TENSORS_MAX];
    static lb_recipe_tensor mixed[TENSORS_MAX];
    static lb_recipe_choice choice[TENSORS_MAX];
    lb_arena scratch = {0};
    g->opts = (lb_recipe_opts){.overrides = &g->overrides};
    g->overrides = (lb_overrides){.arena = &g->perm};
    if (!lb_recipe_find(word(&line), &g->opts.recipe))
        return false;
    while (line.len)
        if (!read_option(g, word(&line), &line))
            return false;
    shuffle(g, from);
    for (u64 i = 0; i < g->n_tensors; i++)
        mixed[i] = g->tensors[from[i]];
    const lb_recipe_job job = {&g->opts, &g->model, g->n_tensors, mixed};
    g->status = lb_recipe_choose(&job, choice, &scratch, &err);
    for (u64 i = 0; i < g->n_tensors; i++)
        g->choice[from[i]] = choice[i];
    lb_arena_deinit(&scratch);
    g->n_runs++;
    return true;
}

/* "3:q6_k*2,q4_k": tensors of row 3; *checked: which rows were named. */
static bool check_row(golden *g, lb_str code, lb_str what, u32 *checked) {
    u64 i, n, at = 0;
    lb_dtype t;
    size_t cut;
    if (!lb_str_find(code, LB_STR(":"), &cut) || !lb_str_to_u64(lb_str_sub(code, 0, cut), &i) ||
        i >= g->n_rows)
        return false;
    *checked |= 1u << i;
    code = lb_str_sub(code, cut + 1, code.len);
    while (code.len) {
        size_t end = code.len, star;
        (void)lb_str_find(code, LB_STR(","), &end);
        const lb_str one = lb_str_sub(code, 0, end);
        star = one.len;
        n = 1;
        if (lb_str_find(one, LB_STR("*"), &star) &&
            !lb_str_to_u64(lb_str_sub(one, star + 1, one.len), &n))
            return false;
        if (!lb_dtype_find(lb_str_sub(one, 0, star), &t) || at + n > g->rows[i].n)
            return false;
        for (u64 last = at + n; at < last; at++) {
            const u64 j = g->rows[i].first + at;
            if (g->choice[j].dtype != t)
                lb_test_fail(__FILE__, __LINE__, "%.*s %.*s, '%.*s': %s, expected %s",
                             LB_FMT(g->model.arch), LB_FMT(what), LB_FMT(g->tensors[j].name),
                             lb_dtype_get(g->choice[j].dtype)->name, lb_dtype_get(t)->name);
        }
        code = lb_str_sub(code, LB_MIN(end + 1, code.len), code.len);
    }
    return at == g->rows[i].n;
}

static bool check_types(golden *g, lb_str line, lb_str what) {
    u32 checked = 0;
    if (g->status != LB_OK)
        lb_test_fail(__FILE__, __LINE__, "%.*s %.*s: %s", LB_FMT(g->model.arch), LB_FMT(what),
                     err.msg);
    while (line.len)
        if (!check_row(g, word(&line), what, &checked))
            return false;
    for (u64 i = 0; i < g->n_rows; i++) {
        for (u64 j = 0; !(checked >> i & 1) && j < g->rows[i].n; j++) {
            const lb_recipe_tensor *t = &g->tensors[g->rows[i].first + j];
            if (g->choice[g->rows[i].first + j].dtype != t->stored)
                lb_test_fail(__FILE__, __LINE__, "%.*s %.*s, '%.*s' does not keep its type",
                             LB_FMT(g->model.arch), LB_FMT(what), LB_FMT(t->name));
        }
    }
    return true;
}

LB_TEST(as_llama_quantize) {
    static golden g;
    static char text[1 << 18];
    FILE *f = fopen(lb_test_golden("quant/recipe.txt"), "rb");
    CHECK(f);
    const size_t size = fread(text, 1, sizeof text, f);
    (void)fclose(f);
    CHECK(size > 0 && size < sizeof text);
    lb_str rest = {text, size}, what = LB_STR_NONE;
    u64 n_errors = 0;
    while (rest.len) {
        size_t end = rest.len;
        (void)lb_str_find(rest, LB_STR("\n"), &end);
        lb_str line = lb_str_sub(rest, 0, end);
        rest = lb_str_sub(rest, LB_MIN(end + 1, rest.len), rest.len);
        const lb_str head = word(&line);
        if (lb_str_eq_c(head, "model")) {
            read_model(&g, line);
        } else if (lb_str_eq_c(head, "t")) {
            CHECK(read_row(&g, line));
        } else if (lb_str_eq_c(head, "run")) {
            what = line;
            CHECK(run(&g, line));
        } else if (lb_str_eq_c(head, "=")) {
            CHECK(check_types(&g, line, what));
        } else if (lb_str_eq_c(head, "!")) {
            n_errors++;
            CHECK(g.status == LB_E_UNSUPPORTED);
        }
    }
    lb_arena_deinit(&g.perm);
    CHECK(g.n_runs >= 364 && n_errors >= 4);
}

/* ---- names ---- */

LB_TEST(names) {
    static const struct {
        const char *name;
        lb_recipe_id id;
    } good[] = {
        {"q4_k_m", LB_RECIPE_Q4_K_M},       {"Q4_K", LB_RECIPE_Q4_K_M}, {"q3_k", LB_RECIPE_Q3_K_M},
        {"Q5_k", LB_RECIPE_Q5_K_M},         {"15", LB_RECIPE_Q4_K_M},   {"0", LB_RECIPE_F32},
        {"38", LB_RECIPE_MXFP4_MOE},        {"mxfp4", LB_RECIPE_MXFP4}, {"NVFP4", LB_RECIPE_NVFP4},
        {"MXFP4_MOE", LB_RECIPE_MXFP4_MOE}, {"copy", LB_RECIPE_COPY},   {"bf16", LB_RECIPE_BF16}};
    static const char *const bad[] = {"",   "q4", "q4_k_m ", "q4_k_x",
                                      "39", "4",  "-1",      "99999999999999999999"};
    lb_recipe_id id;
    for (u32 i = 0; i < LB_LEN(good); i++) {
        CHECK(lb_recipe_find(lb_str_c(good[i].name), &id));
        CHECK_U64(id, good[i].id);
    }
    for (u32 i = 0; i < LB_LEN(bad); i++)
        CHECK(!lb_recipe_find(lb_str_c(bad[i]), &id));
    for (u32 i = 0; i < LB_RECIPE_COUNT; i++) {
        CHECK(lb_recipe_find(lb_str_c(lb_recipe_get((lb_recipe_id)i)->name), &id));
        CHECK_U64(id, i);
    }
}

LB_TEST(types) {
    lb_dtype t;
    CHECK_OK(lb_recipe_type_find(LB_STR("Q4_K"), &t, &err));
    CHECK_U64(t, LB_Q4_K);
    CHECK_OK(lb_recipe_type_find(LB_STR("bf16"), &t, &err));
    static const char *const bad[] = {"q4_k_m", "q8_1", "q8_k", "i32", "f64", "f8_e4m3", ""};
    for (u32 i = 0; i < LB_LEN(bad); i++) {
        CHECK(lb_recipe_type_find(lb_str_c(bad[i]), &t, &err) == LB_E_USAGE);
        CHECK(strstr(err.msg, " q4_k ") && strstr(err.msg, " nvfp4 ") && !strstr(err.msg, "q8_1 "));
    }
}

/* ---- the model ---- */

LB_TEST(model_from_metadata) {
    lb_arena perm = {0};
    lb_gguf_meta m;
    lb_recipe_model r;
    const i32 heads[] = {8, 4}, none[] = {0, 2};
    lb_meta_init(&m, &perm);
    CHECK(lb_recipe_model_from_meta(&m, &r, &err) == LB_E_FORMAT);
    CHECK_OK(lb_meta_set_str(&m, "general.architecture", LB_STR("nanbeige"), &err));
    CHECK_OK(lb_recipe_model_from_meta(&m, &r, &err));
    CHECK_U64(r.n_layers, 0);
    CHECK_OK(lb_meta_set_u32(&m, "nanbeige.block_count", 10, &err));
    CHECK_OK(lb_meta_set_u32(&m, "nanbeige.num_loops", 3, &err));
    CHECK_OK(lb_meta_set_u32(&m, "nanbeige.attention.head_count", 12, &err));
    CHECK_OK(lb_recipe_model_from_meta(&m, &r, &err));
    CHECK_U64(r.n_layers, 30);
    CHECK_U64(r.n_head_kv, 12);
    CHECK_OK(lb_meta_set_str(&m, "general.architecture", LB_STR("graniteswitch"), &err));
    CHECK_OK(lb_meta_set_u32(&m, "graniteswitch.block_count", 10, &err));
    CHECK_OK(lb_meta_set_u32(&m, "graniteswitch.expert_count", 8, &err));
    CHECK_OK(
        lb_meta_set_array(&m, "graniteswitch.attention.head_count", LB_GGUF_I32, 2, heads, &err));
    CHECK_OK(
        lb_meta_set_array(&m, "graniteswitch.attention.head_count_kv", LB_GGUF_I32, 2, none, &err));
    CHECK_OK(lb_recipe_model_from_meta(&m, &r, &err));
    CHECK_U64(r.n_layers, 11);
    CHECK_U64(r.n_head, 8);
    CHECK_U64(r.n_head_kv, 0);
    CHECK_U64(r.n_expert, 8);
    CHECK_OK(lb_meta_set_str(&m, "graniteswitch.expert_count", LB_STR("8"), &err));
    CHECK(lb_recipe_model_from_meta(&m, &r, &err) == LB_E_FORMAT);
    CHECK(strstr(err.msg, "graniteswitch.expert_count"));
    CHECK_OK(lb_meta_set_u64(&m, "graniteswitch.block_count", UINT64_MAX, &err));
    CHECK(lb_recipe_model_from_meta(&m, &r, &err) == LB_E_FORMAT);
    lb_meta_deinit(&m);
    lb_arena_deinit(&perm);
}

/* ---- order, errors, overrides ---- */

#define TENSOR(text, type, ...)                                                                \
    {                                                                                          \
        .name = LB_STR(text), .stored = LB_##type, .shape = {.rank = 2, .dim = {__VA_ARGS__} } \
    }

LB_TEST(order) {
    static const lb_recipe_tensor t[] = {
        TENSOR("blk.10.b", F16, 2, 32),  TENSOR("output.weight", F16, 2, 32),
        TENSOR("blk.2.b", F16, 2, 32),   TENSOR("blk.2.a", F16, 2, 32),
        TENSOR("a.blk.0.x", F16, 2, 32), TENSOR("blk.0.z", F16, 2, 32),
        TENSOR("blk.x", F16, 2, 32)};
    static const u32 want[] = {4, 6, 1, 5, 3, 2, 0};
    u32 got[LB_LEN(t)];
    lb_arena scratch = {0};
    CHECK_OK(lb_recipe_order(LB_LEN(t), t, got, &scratch, &err));
    CHECK(memcmp(got, want, sizeof want) == 0);
    lb_arena_deinit(&scratch);
}

typedef struct refusal {
    lb_recipe_opts opts;
    lb_recipe_tensor tensor;
    u64 n_expert;
    lb_status choose, check;
    const char *words; /* of the message */
} refusal;

LB_TEST(refusals) {
    static const lb_dtype q4_k = LB_Q4_K, iq2_xxs = LB_IQ2_XXS;
    static const refusal cases[] = {
        {{.recipe = LB_RECIPE_Q4_0}, TENSOR("blk.0.a.weight", F16, 2, 64), 0, LB_OK, LB_OK, ""},
        {{.recipe = LB_RECIPE_Q1_0},
         TENSOR("blk.0.a.weight", F16, 2, 64),
         0,
         LB_E_UNSUPPORTED,
         LB_OK,
         "'blk.0.a.weight': rows of 64 are no multiple of 128, as q1_0"},
        {{.recipe = LB_RECIPE_NVFP4},
         TENSOR("blk.0.a.weight", F16, 2, 32),
         0,
         LB_E_UNSUPPORTED,
         LB_OK,
         "no multiple of 64, as nvfp4"},
        {{.recipe = LB_RECIPE_Q4_0, .output = &q4_k},
         TENSOR("output.weight", F16, 2, 64),
         0,
         LB_E_UNSUPPORTED,
         LB_OK,
         "another type for the output"},
        {{.recipe = LB_RECIPE_F16, .embedding = &q4_k},
         TENSOR("token_embd.weight", F16, 2, 64),
         0,
         LB_E_UNSUPPORTED,
         LB_OK,
         "another type for the embedding"},
        {{.recipe = LB_RECIPE_Q4_K_M},
         TENSOR("enc.ffn_up.weight", F16, 2, 256),
         8,
         LB_E_UNSUPPORTED,
         LB_OK,
         "'enc.ffn_up.weight' is in none of the 4 layers"},
        {{.recipe = LB_RECIPE_Q4_K_M},
         TENSOR("blk.4.ffn_up.weight", F16, 2, 256),
         8,
         LB_E_UNSUPPORTED,
         LB_OK,
         "in none of the 4 layers"},
        {{.recipe = LB_RECIPE_Q4_K_M},
         TENSOR("blk.4.ffn_up.weight", F16, 2, 256),
         0,
         LB_OK,
         LB_OK,
         ""},
        {{.recipe = LB_RECIPE_IQ2_M},
         TENSOR("blk.4.ffn_up.weight", F16, 2, 256),
         8,
         LB_OK,
         LB_E_USAGE,
         "'blk.4.ffn_up.weight' would become iq2_s, which needs an importance file"},
        {{.recipe = LB_RECIPE_IQ2_M, .importance = true},
         TENSOR("blk.0.a.weight", F16, 2, 256),
         0,
         LB_OK,
         LB_E_UNSUPPORTED,
         "the importance file has none for it"},
        {{.recipe = LB_RECIPE_Q2_K_S},
         TENSOR("blk.0.a.weight", F16, 2, 256),
         0,
         LB_OK,
         LB_E_USAGE,
         "would become q2_k"},
        {{.recipe = LB_RECIPE_Q2_K}, TENSOR("blk.0.a.weight", F16, 2, 256), 0, LB_OK, LB_OK, ""},
        {{.recipe = LB_RECIPE_F16, .embedding = &iq2_xxs},
         TENSOR("token_embd.weight", F16, 2, 256),
         0,
         LB_OK,
         LB_E_USAGE,
         "needs an importance file"},
        {{.recipe = LB_RECIPE_Q4_0},
         TENSOR("blk.0.a.weight", Q8_0, 2, 256),
         0,
         LB_OK,
         LB_E_USAGE,
         "quantized already (q8_0)"},
        {{.recipe = LB_RECIPE_Q4_0, .requantize = true},
         TENSOR("blk.0.a.weight", Q8_0, 2, 256),
         0,
         LB_OK,
         LB_OK,
         ""},
        {{.recipe = LB_RECIPE_Q8_0}, TENSOR("blk.0.a.weight", Q8_0, 2, 256), 0, LB_OK, LB_OK, ""},
        {{.recipe = LB_RECIPE_Q8_0},
         TENSOR("blk.0.a.weight", I32, 2, 256),
         0,
         LB_OK,
         LB_E_UNSUPPORTED,
         "the type i32"},
        {{.recipe = LB_RECIPE_COPY}, TENSOR("blk.0.a.weight", I32, 2, 256), 0, LB_OK, LB_OK, ""},
    };
    for (u32 i = 0; i < LB_LEN(cases); i++) {
        const refusal *c = &cases[i];
        lb_arena scratch = {0};
        lb_recipe_choice ch;
        const lb_recipe_model m = {.arch = LB_STR("llama"), .n_layers = 4, .n_expert = c->n_expert};
        const lb_recipe_job job = {&c->opts, &m, 1, &c->tensor};
        err.msg[0] = 0;
        const lb_status st = lb_recipe_choose(&job, &ch, &scratch, &err);
        const lb_status st2 = st == LB_OK ? lb_recipe_check(&job, &ch, &err) : LB_OK;
        lb_arena_deinit(&scratch);
        if (st != c->choose || st2 != c->check || !strstr(err.msg, c->words))
            lb_test_fail(__FILE__, __LINE__, "case %u: %s, %s: %s", i, lb_status_text(st),
                         lb_status_text(st2), err.msg);
    }
}

/* What the rows of the tables say beside types. */
LB_TEST(reasons) {
    static const lb_recipe_tensor t[] = {
        TENSOR("token_embd.weight", F16, 4, 256),      TENSOR("output.weight", F16, 4, 256),
        TENSOR("blk.0.attn_v.weight", F16, 4, 256),    TENSOR("blk.0.attn_q.weight", F16, 4, 288),
        TENSOR("blk.0.attn_norm.weight", F32, 4, 256), TENSOR("blk.0.ffn_up.weight", F16, 4, 256),
        TENSOR("blk.0.ffn_gate.weight", F16, 1, 256),  TENSOR("ab.cd", F16, 2, 256)};
    static const struct {
        lb_dtype dtype, wanted;
        lb_recipe_why why;
    } want[] = {{LB_Q5_K, LB_Q5_K, LB_WHY_OPTION}, {LB_Q6_K, LB_Q6_K, LB_WHY_RULE},
                {LB_Q6_K, LB_Q6_K, LB_WHY_RULE},   {LB_Q5_0, LB_Q4_K, LB_WHY_DEFAULT},
                {LB_F32, LB_F32, LB_WHY_KEPT},     {LB_IQ4_NL, LB_IQ4_NL, LB_WHY_OVERRIDE},
                {LB_F16, LB_F16, LB_WHY_KEPT},     {LB_Q4_K, LB_Q4_K, LB_WHY_DEFAULT}};
    static const lb_dtype q5_k = LB_Q5_K;
    lb_arena perm = {0};
    lb_overrides v = {.arena = &perm};
    lb_recipe_choice ch[LB_LEN(t)];
    const lb_recipe_opts o = {.recipe = LB_RECIPE_Q4_K_M, .embedding = &q5_k, .overrides = &v};
    const lb_recipe_model m = {.arch = LB_STR("llama"), .n_layers = 1};
    const lb_recipe_job job = {&o, &m, LB_LEN(t), t};
    CHECK_OK(lb_override_add(&v, LB_STR("ffn_=iq4_nl"), false, &err));
    CHECK_OK(lb_recipe_choose(&job, ch, &perm, &err));
    for (u32 i = 0; i < LB_LEN(t); i++) {
        CHECK_U64(ch[i].dtype, want[i].dtype);
        CHECK_U64(ch[i].wanted, want[i].wanted);
        CHECK_U64(ch[i].why, want[i].why);
    }
    CHECK_OK(lb_recipe_check_overrides(&job, &err));
    CHECK_OK(lb_override_add(&v, LB_STR("^ffn_=iq4_nl"), false, &err));
    CHECK(lb_recipe_check_overrides(&job, &err) == LB_E_USAGE);
    CHECK(strstr(err.msg, "override \"^ffn_\": the pattern is in no"));
    lb_arena_deinit(&perm);
}

LB_TEST(words_of_overrides) {
    lb_arena perm = {0};
    lb_overrides o = {.arena = &perm};
    CHECK_OK(lb_override_add_words(&o, LB_STR("\n a=q8_0 \t\r\nB=f16"), true, &err));
    CHECK_STR(o.first->pattern, "a");
    CHECK_U64(o.first->dtype, LB_Q8_0);
    CHECK_STR(o.first->next->pattern, "b");
    CHECK_U64(o.first->next->dtype, LB_F16);
    CHECK(!o.first->next->next);
    CHECK_OK(lb_override_add_words(&o, LB_STR(" \n"), true, &err));
    CHECK(lb_override_add_words(&o, LB_STR("c=q4_0 d"), true, &err) == LB_E_USAGE);
    lb_arena_deinit(&perm);
}

LB_TEST(overrides) {
    static const struct {
        const char *pattern, *name;
        bool lower, found;
    } cases[] = {{"attn_v", "blk.0.attn_v.weight", false, true},
                 {"^attn_v", "blk.0.attn_v.weight", false, false},
                 {"ATTN_V", "blk.0.attn_v.weight", false, false},
                 {"ATTN_V", "blk.0.attn_v.weight", true, true},
                 {"weight$", "blk.0.attn_v.weight", false, true},
                 {"weight$", "blk.0.attn_v.weight\n", false, false},
                 {"blk\\.(1|[2-3]\\d)\\.", "blk.25.attn_v.weight", false, true},
                 {"blk\\.(1|[2-3]\\d)\\.", "blk.5.attn_v.weight", false, false},
                 {"[[:digit:]]\\.ffn_(?!up)", "blk.5.ffn_down.weight", false, true},
                 {"a(?==)", "a=", false, true},
                 {"\\x62lk", "blk.0.x", false, true},
                 {"x[]", "x[]", false, false}};
    static const char *const bad[] = {
        "attn_v", "=q8_0", "attn_v=", "attn_v=q4_k_m", "a(=q8_0", "[=q8_0"};
    for (u32 i = 0; i < LB_LEN(cases); i++) {
        lb_arena perm = {0};
        lb_overrides o = {.arena = &perm};
        const lb_override *v = NULL;
        const lb_str text = lb_arena_printf(&perm, "%s=q8_0", cases[i].pattern);
        CHECK_OK(lb_override_add(&o, text, cases[i].lower, &err));
        CHECK_OK(lb_override_find(&o, lb_str_c(cases[i].name), &v, &err));
        if (!v == cases[i].found)
            lb_test_fail(__FILE__, __LINE__, "'%s' in '%s'", cases[i].pattern, cases[i].name);
        lb_arena_deinit(&perm);
    }
    for (u32 i = 0; i < LB_LEN(bad); i++) {
        lb_arena perm = {0};
        lb_overrides o = {.arena = &perm};
        CHECK(lb_override_add(&o, lb_str_c(bad[i]), false, &err) == LB_E_USAGE);
        CHECK(!o.first);
        lb_arena_deinit(&perm);
    }
}

/* A pattern that tries everything is stopped. */
LB_TEST(override_explodes) {
    lb_arena perm = {0};
    lb_overrides o = {.arena = &perm};
    const lb_override *v;
    CHECK_OK(lb_override_add(&o, LB_STR("^(a|a|aa)+$=q8_0"), false, &err));
    CHECK(lb_override_find(&o,
                           LB_STR("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac"),
                           &v, &err) == LB_E_LIMIT);
    CHECK(perm.size_bytes < 8 * LB_MIB);
    lb_arena_deinit(&perm);
}

/* Every allocation may fail. */
LB_TEST(memory) {
    static const lb_recipe_tensor t[] = {TENSOR("blk.0.attn_v.weight", F16, 4, 256)};
    bool done = false;
    for (u64 n = 1; !done && n < 40; n++) {
        lb_arena perm = {0};
        lb_overrides v = {.arena = &perm};
        lb_recipe_choice ch;
        const lb_recipe_opts o = {.recipe = LB_RECIPE_Q4_K_M, .overrides = &v};
        const lb_recipe_model m = {.arch = LB_STR("llama"), .n_layers = 1};
        const lb_recipe_job job = {&o, &m, 1, t};
        const u64 before = lb_mem_count();
        lb_mem_fail_at(n);
        lb_status st = lb_override_add(&v, LB_STR("(attn|ffn)_[vq]=q8_0"), false, &err);
        if (st == LB_OK)
            st = lb_recipe_choose(&job, &ch, &perm, &err);
        lb_mem_fail_at(0);
        done = st == LB_OK && lb_mem_count() - before < n;
        if (st == LB_OK ? ch.dtype != LB_Q8_0 : st != LB_E_NOMEM)
            lb_test_fail(__FILE__, __LINE__, "allocation %llu: %s: %s", (unsigned long long)n,
                         lb_status_text(st), err.msg);
        lb_arena_deinit(&perm);
    }
    CHECK(done);
}

LB_TEST_MAIN("fast")
