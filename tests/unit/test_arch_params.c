/* SPDX-License-Identifier: Apache-2.0 */
/* test_arch_params.c: published and random configs against the pairs that the reference writes for
 * them and the tensors that it makes (tests/golden/arch/params.json).
 *
 * LB_TEST_PARAMS=FILE takes another file (make_params.py --all makes one of any length). Where the
 * reference fails, an error or a result are both fine; where it loses a rope type in silence, this
 * must be a refusal. */
#include "arch/arch_internal.h"
#include "arch_util.h"
#include "test.h"
#include <stdlib.h>

static lb_arena arena;

static lb_json *open_cases(void) {
    const char *path = getenv("LB_TEST_PARAMS");
    if (!path)
        return lb_json_get(arch_golden("params.json", &arena), "cases");
    lb_json *v = NULL;
    lb_buf b = {0};
    char chunk[65536];
    size_t n;
    FILE *f = fopen(path, "rb");
    while (f && (n = fread(chunk, 1, sizeof chunk, f)) > 0)
        lb_buf_put(&b, chunk, n);
    if (f)
        fclose(f);
    lb_str text = lb_arena_str(&arena, lb_buf_str(&b));
    lb_buf_deinit(&b);
    lb_json_parse(text, path, &arena, &v, NULL);
    return lb_json_get(v, "cases");
}

/* What the reference passes over although it changes the model. */
static bool is_lossy(const lb_arch *a, const lb_json *config) {
    lb_arch_normal n;
    lb_str type;
    if (lb_arch_normalise(config, &arena, &n, NULL) != LB_OK)
        return false;
    if (!lb_json_as_str(lb_arch_pick(&n, "@rope_type"), &type))
        return false;
    bool no_factor = (lb_str_eq_c(type, "linear") || lb_str_eq_c(type, "yarn")) &&
                     !lb_json_as_u64(lb_arch_pick(&n, "@factor"), &(u64){0}) &&
                     !lb_json_as_f64(lb_arch_pick(&n, "@factor"), &(double){0});
    return no_factor || (lb_str_eq_c(type, "llama3") && !(a->flags & LB_ARCH_ROPE_FREQS));
}

/* Gemma 3's reference does not say which layers slide, where that is not llama.cpp's rule. */
static bool drop_layers(lb_gguf_meta *m, const lb_json *want) {
    static const char key[] = "gemma3.attention.sliding_window_pattern";
    for (const lb_json *k = want->first; k; k = k->next)
        if (lb_str_eq_c(k->first->text, key))
            return false;
    bool had = lb_meta_find(m, key) != NULL;
    lb_meta_remove(m, key);
    return had;
}

static bool same_made(const lb_json *want, const lb_arch_made_tensor *made, u32 n) {
    u64 i = 0, bits;
    if (want->n != n)
        return false;
    if (n == 0)
        return true;
    const lb_json *values = want->first->last;
    if (!lb_str_eq(want->first->first->text, made->name) || values->n != made->shape.dim[0])
        return false;
    for (const lb_json *v = values->first; v; v = v->next, i++)
        if (!lb_json_as_u64(v, &bits) || lb_f32_bits(made->values[i]) != bits)
            return false;
    return true;
}

LB_TEST(params) {
    const lb_json *cases = open_cases();
    u32 n_same = 0, n_lossy = 0, n_errors = 0, n_layers = 0;
    CHECK(cases && cases->n >= 200);
    for (const lb_json *c = cases->first; c; c = c->next) {
        lb_err err = {0};
        const lb_arch *a = NULL;
        lb_hparams hp;
        lb_gguf_meta m;
        lb_arch_made_tensor *made = NULL;
        u32 n_made = 0;
        const lb_json *want = lb_json_get(c, "kv"), *config = arch_text(c, "config", &arena);
        lb_meta_init(&m, &arena);
        lb_status st = lb_arch_from_config(config, &a, &hp, &err);
        if (a && want)
            st = lb_arch_meta_model(a, config, &m, &err);
        if (st == LB_OK && want)
            st = lb_arch_made(a, config, &arena, &made, &n_made, &err);
        bool lossy = want && a && is_lossy(a, config);
        n_layers += a && want && drop_layers(&m, want);
        if (!want) {
            n_errors++;
        } else if (lossy) {
            n_lossy += st != LB_OK;
            CHECK(st != LB_OK);
        } else if (st != LB_OK) {
            lb_test_fail(__FILE__, __LINE__, "%.*s: %s", LB_FMT(arch_str(c, "config")), err.msg);
        } else if (!arch_same_meta("params", &m, want, NULL) ||
                   !same_made(lb_json_get(c, "made"), made, n_made)) {
            lb_test_fail(__FILE__, __LINE__, "%.*s", LB_FMT(arch_str(c, "config")));
        } else {
            n_same++;
        }
        lb_meta_deinit(&m);
    }
    printf("%u equal, %u lossy refused, %u where the reference fails\n", n_same, n_lossy, n_errors);
    CHECK(n_same >= 100 && (getenv("LB_TEST_PARAMS") || n_layers == 2));
}

static const lb_gguf_kv *find(const lb_gguf_meta *m, lb_str key) {
    for (u64 i = 0; i < m->n; i++)
        if (lb_str_eq(m->kv[i].key, key))
            return &m->kv[i];
    return NULL;
}

static bool same_kv(const lb_gguf_kv *a, const lb_gguf_kv *b) {
    if (a->type != b->type)
        return false;
    if (a->type == LB_GGUF_ARRAY && a->elem == LB_GGUF_BOOL)
        return b->elem == a->elem && b->n == a->n && memcmp(a->v.array, b->v.array, a->n) == 0;
    return a->type == LB_GGUF_STR   ? lb_str_eq(a->v.s, b->v.s)
           : a->type == LB_GGUF_F32 ? a->v.f == b->v.f
                                    : a->v.u == b->v.u;
}

static bool is_noticed(const lb_arch_config_out *out, lb_str key) {
    for (u32 i = 0; i < out->n_notices; i++) {
        size_t at;
        if (lb_str_find(lb_str_c(out->notices[i]), key, &at) ||
            strcmp(out->notices[i], "and more") == 0)
            return true;
    }
    return false;
}

/* Metadata -> config -> metadata: nothing is lost but what a notice names; nothing is added but
 * what the loader derives anyway. */
LB_TEST(round_trip) {
    static const char *const derived[] = {
        "attention.key_length",    "attention.value_length", "vocab_size",
        "rope.dimension_count",    "rope.freq_base",         "rope.freq_base_swa",
        "attention.head_count_kv", "context_length"};
    const lb_json *cases = open_cases();
    u32 n_trips = 0;
    CHECK(cases);
    for (const lb_json *c = cases->first; c; c = c->next) {
        lb_err err = {0};
        const lb_arch *a = NULL, *b = NULL;
        lb_hparams hp;
        lb_gguf_meta m, again;
        lb_arch_made_tensor *made = NULL;
        lb_arch_seen seen = {.vocab_rows = 1000};
        lb_arch_config_out out;
        u32 n = 0;
        lb_json *text;
        const lb_json *config = arch_text(c, "config", &arena);
        lb_meta_init(&m, &arena);
        lb_meta_init(&again, &arena);
        bool ok = lb_arch_from_config(config, &a, &hp, &err) == LB_OK &&
                  lb_arch_meta_model(a, config, &m, &err) == LB_OK &&
                  lb_arch_made(a, config, &arena, &made, &n, &err) == LB_OK;
        lb_arch_config_in in = {.meta = &m,
                                .seen = &seen,
                                .rope_freqs = n ? made->values : NULL,
                                .n_rope_freqs = n ? made->shape.dim[0] : 0,
                                .dtype = LB_BF16};
        lb_status st = ok ? lb_arch_config_from_meta(&in, &arena, &out, &err) : LB_E_FORMAT;
        if (ok && st == LB_OK) {
            CHECK_OK(lb_json_parse(out.config, "config.json", &arena, &text, &err));
            CHECK_OK(lb_arch_from_config(text, &b, &hp, &err));
            CHECK_OK(lb_arch_meta_model(b, text, &again, &err));
            n_trips++;
        }
        for (u64 i = 0; ok && st == LB_OK && i < m.n; i++) {
            const lb_gguf_kv *kv = find(&again, m.kv[i].key);
            if ((!kv || !same_kv(kv, &m.kv[i])) && !is_noticed(&out, m.kv[i].key) &&
                !lb_str_ends(m.kv[i].key, LB_STR(".vocab_size")))
                lb_test_fail(__FILE__, __LINE__, "%.*s: '%.*s' is lost",
                             LB_FMT(arch_str(c, "config")), LB_FMT(m.kv[i].key));
        }
        for (u64 i = 0; ok && st == LB_OK && i < again.n; i++) {
            bool known = find(&m, again.kv[i].key) != NULL;
            for (size_t k = 0; k < LB_LEN(derived); k++)
                known = known || lb_str_ends(again.kv[i].key, lb_str_c(derived[k]));
            if (!known)
                lb_test_fail(__FILE__, __LINE__, "%.*s: '%.*s' is new",
                             LB_FMT(arch_str(c, "config")), LB_FMT(again.kv[i].key));
        }
        lb_meta_deinit(&m);
        lb_meta_deinit(&again);
    }
    CHECK(n_trips >= 100);
}

/* Bits by Python: struct.pack("<f", 10000.0 * alpha ** (dim / (dim - 2))). */
LB_TEST(ntk) {
    static const struct {
        double alpha;
        u64 dim;
        u32 bits;
    } known[] = {{1000, 128, 1261061432},
                 {50, 128, 1224860673},
                 {50, 64, 1225424181},
                 {12.5, 96, 1208012616}};
    static const double alphas[] = {1, 1.5, 3.75, 0.5, 50, 1000, 12.25, 262144, 0.125};
    static const u64 dims[] = {4, 16, 64, 80, 128, 256};
    double back;
    for (size_t i = 0; i < LB_LEN(known); i++)
        CHECK_U64(lb_f32_bits((float)lb_rope_ntk_base(10000, known[i].alpha, known[i].dim)),
                  known[i].bits);
    for (size_t i = 0; i < LB_LEN(alphas); i++)
        for (size_t k = 0; k < LB_LEN(dims); k++) {
            float base = (float)lb_rope_ntk_base(10000, alphas[i], dims[k]);
            CHECK(lb_rope_ntk_solve(base, 10000, dims[k], &back));
            CHECK(back == alphas[i]);
        }
    CHECK(!lb_rope_ntk_solve(0, 10000, 64, &back) && !lb_rope_ntk_solve(-1, 10000, 64, &back));
    CHECK(!lb_rope_ntk_solve(20000, 10000, 2, &back));
}

/* A class's other names of its fields count like its own. */
LB_TEST(aliases) {
    lb_err err = {0};
    lb_hparams own, general;
    const lb_arch *a;
    lb_json *c;
    CHECK_OK(lb_json_parse(LB_STR("{\"model_type\": \"gpt2\", \"n_embd\": 96, \"n_head\": 6,"
                                  "\"n_layer\": 3, \"n_positions\": 64}"),
                           "t", &arena, &c, &err));
    CHECK_OK(lb_arch_from_config(c, &a, &own, &err));
    CHECK_OK(lb_json_parse(LB_STR("{\"model_type\": \"gpt2\", \"hidden_size\": 96,"
                                  "\"num_attention_heads\": 6, \"num_hidden_layers\": 3,"
                                  "\"max_position_embeddings\": 64}"),
                           "t", &arena, &c, &err));
    CHECK_OK(lb_arch_from_config(c, &a, &general, &err));
    CHECK(memcmp(&own, &general, sizeof own) == 0);
    CHECK(own.n_embd == 96 && own.n_head == 6 && own.n_layers == 3 && own.n_ff == 4 * 96);
}

LB_TEST_MAIN("fast")
