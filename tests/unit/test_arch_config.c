/* SPDX-License-Identifier: Apache-2.0 */
/* test_arch_config.c: configs as transformers and mlx-lm see them (tests/golden/arch/config.json)
 * and back from GGUF metadata (convert.json, recovered.json).
 *
 * recovered.json holds the configs that this code makes; check_recovered.py, beside it, has loaded
 * each with transformers and mlx-lm and compared it with the original. LB_TEST_WRITE=FILE writes it
 * anew. */
#include "arch/arch_internal.h"
#include "arch_util.h"
#include "test.h"
#include <stdlib.h>

static lb_arena arena;
static lb_err err;

static bool same_number(const lb_json *a, const lb_json *b) {
    double x, y;
    if (a && b && a->type == LB_JBOOL && b->type == LB_JBOOL)
        return a->truth == b->truth;
    return lb_json_as_f64(a, &x) && lb_json_as_f64(b, &y) && x == y;
}

static bool same_value(const lb_json *a, const lb_json *b) {
    if (a && b && a->type == LB_JSTRING)
        return b->type == LB_JSTRING && lb_str_eq(a->text, b->text);
    return same_number(a, b);
}

static bool is_set(const lb_json *v) {
    return v && v->type != LB_JNULL;
}

LB_TEST(normal_form) {
    const lb_json *cases = lb_json_get(arch_golden("config.json", &arena), "normal");
    u32 n_raw = 0;
    CHECK(cases && cases->n >= 40);
    for (const lb_json *c = cases->first; c; c = c->next) {
        static const char *const rope_keys[] = {"rope_type", "rope_theta", "factor",
                                                "original_max_position_embeddings"};
        lb_arch_normal n;
        lb_str text = arch_str(c, "config");
        CHECK_OK(lb_arch_normalise(arch_text(c, "config", &arena), &arena, &n, &err));
        const lb_json *rope = lb_json_get(c, "rope"), *local = lb_json_get(c, "local_theta");
        bool raw = false;
        lb_json_as_bool(lb_json_get(c, "raw"), &raw);
        n_raw += raw;
        bool ok = true;
        for (const lb_json *f = lb_json_get(c, "fields")->first; f; f = f->next)
            /* fields that only the model uses are not kept in the tables' defaults */
            ok = ok && (same_value(lb_json_get_str(n.config, f->key), f) ||
                        lb_str_eq_c(f->key, "sliding_window"));
        ok = ok && is_set(lb_json_get(n.config, "head_dim")) ==
                       is_set(lb_json_get(lb_json_get(c, "fields"), "head_dim"));
        for (size_t k = 0; k < LB_LEN(rope_keys); k++) {
            const lb_json *want = lb_json_get(rope, rope_keys[k]);
            const lb_json *got = lb_json_get(n.rope, rope_keys[k]);
            ok = ok && is_set(got) == is_set(want) && (!want || same_value(got, want));
        }
        const lb_json *got_local = lb_json_get(n.rope_local, "rope_theta");
        ok = ok && is_set(got_local) == is_set(local) &&
             (!is_set(local) || same_number(got_local, local));
        if (!ok) {
            lb_buf b = {0};
            lb_json_write(&b, n.config, (lb_json_style){0});
            lb_json_write(&b, n.rope, (lb_json_style){0});
            lb_test_fail(__FILE__, __LINE__, "%.*s gives %.*s", LB_FMT(text),
                         LB_FMT(lb_buf_str(&b)));
            lb_buf_deinit(&b);
        }
    }
    CHECK(n_raw >= 10);
}

LB_TEST(rope_factors) {
    const lb_json *cases = lb_json_get(arch_golden("config.json", &arena), "rope");
    CHECK(cases && cases->n >= 30);
    for (const lb_json *c = cases->first; c; c = c->next) {
        double p[6];
        float got[64], want[64];
        u64 bits, n = 0;
        const lb_json *v = c->first;
        for (size_t i = 0; i < 6; i++, v = v->next)
            CHECK(lb_json_as_f64(v, &p[i]));
        for (const lb_json *f = v->first; f; f = f->next) {
            CHECK(lb_json_as_u64(f, &bits));
            want[n++] = lb_f32_from_bits((u32)bits);
        }
        lb_rope_llama3 q = {p[1], p[2], p[3], p[4], p[5]}, back = {.theta = p[1]};
        lb_rope_llama3_factors(&q, (u64)p[0], got);
        for (u64 i = 0; i < n; i++) {
            /* the reference's own code paths differ by a unit of the power */
            double d = ((double)got[i] - (double)want[i]) / (double)want[i];
            CHECK(d < 3e-7 && d > -3e-7);
        }
        bool usual = p[3] == 1 && (p[4] == 4 || p[4] == 8);
        bool found = lb_rope_llama3_solve(&back, (u64)p[0], want);
        CHECK(found || !usual);
        if (usual)
            CHECK(back.factor == p[2] && back.high == p[4] && back.orig == p[5]);
        if (found) {
            lb_rope_llama3_factors(&back, (u64)p[0], got);
            for (u64 i = 0; i < n; i++) {
                double d = ((double)got[i] - (double)want[i]) / (double)want[i];
                CHECK(d < 3e-7 && d > -3e-7);
            }
        }
    }
}

/* Every rule comes back as one that gives the same factors, also where few or no wavelengths lie
 * inside its span. */
LB_TEST(rules_come_back) {
    static const double dims[] = {4, 8, 16, 32, 64, 96, 128}, thetas[] = {10000, 500000, 1e6, 5e6};
    static const double factors[] = {1.5, 2, 4, 8, 32}, lows[] = {1, 1, 2, 0.5},
                        origs[] = {64, 512, 4096, 8192, 32768};
    static const double ratios[] = {1.5, 2, 4, 8};
    u64 lost = 0, n = 0;
    for (u32 i = 0; i < 7 * 4 * 5 * 4 * 5 * 4; i += 9) {
        u32 k = i;
        lb_rope_llama3 p = {0}, back = {0};
        float want[64], got[64];
        u64 dim = (u64)dims[k % 7];
        back.theta = p.theta = thetas[(k /= 7) % 4];
        p.factor = factors[(k /= 4) % 5];
        p.low = lows[(k /= 5) % 4];
        p.orig = origs[(k /= 4) % 5];
        p.high = p.low * ratios[(k / 5) % 4];
        lb_rope_llama3_factors(&p, dim, want);
        if (want[dim / 2 - 1] == 1)
            continue; /* no scaling at all */
        n++;
        if (!lb_rope_llama3_solve(&back, dim, want)) {
            lost++;
            continue;
        }
        lb_rope_llama3_factors(&back, dim, got);
        for (u64 j = 0; j < dim / 2; j++) {
            double d = ((double)got[j] - (double)want[j]) / (double)want[j];
            CHECK(d < 3e-7 && d > -3e-7);
        }
    }
    CHECK(n > 700);
    CHECK_U64(lost, 0);
}

LB_TEST(no_rule_for_factors) {
    float f[32];
    lb_rope_llama3 p = {.theta = 500000};
    for (int i = 0; i < 32; i++)
        f[i] = i < 12 ? 1.0f : i < 18 ? 1.0f + (float)(i * i % 7) : 8.0f;
    CHECK(!lb_rope_llama3_solve(&p, 64, f));
    f[31] = 0.5f;
    CHECK(!lb_rope_llama3_solve(&p, 64, f));
    f[31] = __builtin_nanf("");
    CHECK(!lb_rope_llama3_solve(&p, 64, f));
}

/* ---- MLX ---- */

LB_TEST(to_mlx) {
    const lb_json *cases = lb_json_get(arch_golden("config.json", &arena), "mlx");
    u32 n_same = 0;
    CHECK(cases && cases->n >= 27);
    for (const lb_json *c = cases->first; c; c = c->next) {
        lb_buf b = {0};
        lb_str want = arch_str(c, "text");
        lb_json *ours, *theirs;
        CHECK_OK(lb_arch_config_to_mlx(arch_str(c, "config"), arch_text(c, "generation", &arena),
                                       arch_text(c, "quantization", &arena), &b, &err));
        if (lb_str_eq(lb_buf_str(&b), want)) {
            n_same++;
            lb_buf_deinit(&b);
            continue;
        }
        /* Else it has what mlx-lm's class would take from a default that is not the model's. */
        CHECK_OK(lb_json_parse(lb_buf_str(&b), "ours", &arena, &ours, &err));
        CHECK_OK(lb_json_parse(want, "theirs", &arena, &theirs, &err));
        u64 n_added = 0;
        for (lb_json *m = ours->first, *next; m; m = next) {
            next = m->next;
            if (lb_json_get_str(theirs, m->key))
                continue;
            CHECK(lb_str_starts(m->key, LB_STR("rope_")) ||
                  lb_str_eq_c(m->key, "tie_word_embeddings") ||
                  lb_str_eq_c(m->key, "sliding_window_pattern") ||
                  lb_str_eq_c(m->key, "num_key_value_heads") ||
                  lb_str_eq_c(m->key, "rms_norm_eps") || lb_str_eq_c(m->key, "head_dim") ||
                  lb_str_eq_c(m->key, "max_position_embeddings"));
            lb_str key = lb_arena_str(&arena, m->key);
            lb_json_remove(ours, key.ptr);
            n_added++;
        }
        CHECK(n_added > 0);
        lb_buf again = {0};
        lb_json_write(&again, ours, (lb_json_style){.indent = 4, .ascii = true});
        CHECK(lb_str_eq(lb_buf_str(&again), want));
        lb_buf_deinit(&again);
        lb_buf_deinit(&b);
    }
    CHECK(n_same >= 6);
}

static bool mlx_has(const char *config, const char *key, const char *value) {
    lb_buf b = {0};
    lb_json *c, *v = NULL;
    bool ok = lb_arch_config_to_mlx(lb_str_c(config), NULL, NULL, &b, &err) == LB_OK &&
              lb_json_parse(lb_arena_str(&arena, lb_buf_str(&b)), "mlx", &arena, &c, &err) == LB_OK;
    lb_buf_reset(&b);
    if (ok && (v = lb_json_get(c, key)) != NULL)
        lb_json_write(&b, v, (lb_json_style){0});
    ok = ok && (value ? lb_str_eq_c(lb_buf_str(&b), value) : v == NULL);
    if (!ok)
        lb_test_fail(__FILE__, __LINE__, "%s is %.*s", key, LB_FMT(lb_buf_str(&b)));
    lb_buf_deinit(&b);
    return ok;
}

/* What was quantized is not any more, in the configs of parts either; of a language model alone
 * that gets such a config, too. */
LB_TEST(mlx_without_codes) {
    static const char *const configs[] = {
        "{\"model_type\": \"llama\", \"quantization_config\": {\"quant_method\": \"fp8\"}}",
        "{\"model_type\": \"mistral3\", \"text_config\": {\"model_type\": \"mistral\", "
        "\"quantization_config\": {\"quant_method\": \"awq\"}}}",
        "{\"model_type\": \"qwen3_5_text\", \"hidden_size\": 64, "
        "\"compression_config\": {\"config_groups\": {}}}",
    };
    static const lb_json none = {.type = LB_JNULL};
    for (size_t i = 0; i < LB_LEN(configs); i++) {
        lb_buf b = {0};
        size_t at;
        CHECK_OK(lb_arch_config_to_mlx(lb_str_c(configs[i]), NULL, &none, &b, &err));
        CHECK(!lb_str_find(lb_buf_str(&b), LB_STR("quant"), &at) &&
              !lb_str_find(lb_buf_str(&b), LB_STR("compression"), &at) &&
              lb_str_find(lb_buf_str(&b), LB_STR("model_type"), &at));
        lb_buf_deinit(&b);
    }
}

LB_TEST(mlx_gets_what_it_reads) {
#define LLAMA                                                                      \
    "\"model_type\": \"llama\", \"hidden_size\": 64, \"num_attention_heads\": 4, " \
    "\"tie_word_embeddings\": false, "
    static const char c[] = "{" LLAMA "\"rope_parameters\": {\"rope_type\": \"llama3\", "
                            "\"rope_theta\": 500000.0, \"factor\": 8.0, \"low_freq_factor\": 1.0, "
                            "\"high_freq_factor\": 4.0, "
                            "\"original_max_position_embeddings\": 8192}}";
    CHECK(mlx_has(c, "rope_theta", "500000.0"));
    CHECK(mlx_has(c, "rope_scaling",
                  "{\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, "
                  "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 8192}"));
    CHECK(mlx_has("{" LLAMA "\"rope_parameters\": {\"rope_type\": \"default\", "
                  "\"rope_theta\": 10000.0}}",
                  "rope_theta", NULL));
    CHECK(mlx_has("{" LLAMA "\"rope_theta\": 5.0}", "rope_scaling", NULL));
    CHECK(mlx_has("{\"model_type\": \"nemotron\", \"rope_scaling\": {\"rope_type\": \"linear\", "
                  "\"factor\": 2.0}}",
                  "rope_scaling",
                  "{\"rope_type\": \"linear\", \"factor\": 2.0, \"type\": \"linear\"}"));
    /* what mlx-lm's class would do without: transformers reads it beside rope_scaling only */
    static const char yarn[] =
        "{\"model_type\": \"qwen2\", \"rope_parameters\": {\"rope_type\": \"yarn\", "
        "\"rope_theta\": 1000000.0, \"factor\": 4.0, \"partial_rotary_factor\": 0.5}}";
    CHECK(mlx_has(yarn, "rope_theta", "1000000.0"));
    CHECK(mlx_has(yarn, "partial_rotary_factor", "0.5"));
    CHECK(mlx_has("{" LLAMA "\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 2.0}}",
                  "rope_scaling", "{\"rope_type\": \"linear\", \"factor\": 2.0}"));
    CHECK(mlx_has("{\"model_type\": \"llama\"}", "tie_word_embeddings", "false"));
    CHECK(mlx_has("{\"model_type\": \"qwen2\", \"num_key_value_heads\": 2}", "rope_theta",
                  "10000.0"));
    CHECK(mlx_has("{\"model_type\": \"gemma3_text\", \"rope_parameters\": {\"sliding_attention\": "
                  "{\"rope_theta\": 5.0}, \"full_attention\": {\"rope_theta\": 7.0}}, "
                  "\"layer_types\": [\"sliding_attention\", \"full_attention\", "
                  "\"sliding_attention\", \"full_attention\"]}",
                  "rope_local_base_freq", "5.0"));
    CHECK(mlx_has("{\"model_type\": \"gemma3_text\", \"layer_types\": [\"sliding_attention\", "
                  "\"full_attention\", \"sliding_attention\", \"full_attention\"]}",
                  "sliding_window_pattern", "2"));
}

/* ---- HF ---- */

static bool to_hf_rows(const char *in, lb_dtype t, u64 n_vocab, const char *want) {
    lb_buf b = {0};
    lb_status st = lb_arch_config_to_hf(lb_str_c(in), t, n_vocab, &b, &err);
    bool ok = st == LB_OK && lb_str_eq_c(lb_buf_str(&b), want);
    if (!ok)
        lb_test_fail(__FILE__, __LINE__, "%s -> %.*s %s", in, LB_FMT(lb_buf_str(&b)), err.msg);
    lb_buf_deinit(&b);
    return ok;
}

static bool to_hf(const char *in, lb_dtype t, const char *want) {
    return to_hf_rows(in, t, 0, want);
}

/* gemma3's GGUF keeps only the rows that the tokenizer knows. */
LB_TEST(vocabulary_follows_the_embedding) {
    CHECK(to_hf_rows("{\"vocab_size\": 64, \"a\": {\"vocab_size\": 64}}", LB_F16, 60,
                     "{\"vocab_size\": 60, \"a\": {\"vocab_size\": 64}}"));
    CHECK(to_hf_rows("{\"vocab_size\" :64}", LB_F16, 64, "{\"vocab_size\" :64}"));
    CHECK(to_hf("{\"vocab_size\": 64}", LB_F16, "{\"vocab_size\": 64}"));
}

LB_TEST(text_stays) {
    CHECK(to_hf("{}", LB_F16, "{}"));
    CHECK(to_hf(" {\"a\" : 1e-05 ,\n\t\"b\":[ 1,2 ] } \n", LB_F16,
                " {\"a\" : 1e-05 ,\n\t\"b\":[ 1,2 ] } \n"));
    CHECK(to_hf("{\"dtype\": \"bfloat16\", \"x\": {\"dtype\": \"y\"}}", LB_BF16,
                "{\"dtype\": \"bfloat16\", \"x\": {\"dtype\": \"y\"}}"));
    CHECK(to_hf("{\"torch_dtype\" :  \"bfloat16\" ,\"a\":1}", LB_F32,
                "{\"torch_dtype\" :  \"float32\" ,\"a\":1}"));
    CHECK(to_hf("{\"quantization\": {\"bits\": 4}}", LB_F16, "{}"));
    CHECK(to_hf("{\"quantization\": 1, \"quantization_config\": {\"x\": [1, {}]}, \"a\": 1}",
                LB_F16, "{ \"a\": 1}"));
    CHECK(to_hf("{\n  \"a\": 1,\n  \"quantization\": 1,\n  \"quantization_config\": 2\n}\n", LB_F16,
                "{\n  \"a\": 1\n}\n"));
    CHECK(to_hf("{\"a\":1,\"quantization\":2,\"b\":3}", LB_F16, "{\"a\":1,\"b\":3}"));
    lb_buf b = {0};
    CHECK_U64(lb_arch_config_to_hf(LB_STR("[1]"), LB_F16, 0, &b, &err), LB_E_FORMAT);
    CHECK_U64(lb_arch_config_to_hf(LB_STR("{\"a\": 1} x"), LB_F16, 0, &b, &err), LB_E_FORMAT);
    CHECK_U64(lb_arch_config_to_hf(LB_STR("{\"a\": "), LB_F16, 0, &b, &err), LB_E_FORMAT);
    CHECK_U64(lb_arch_config_to_hf(LB_STR(""), LB_F16, 0, &b, &err), LB_E_FORMAT);
    lb_buf_deinit(&b);
}

/* ---- from metadata ---- */

static void read_meta(const lb_json *kv, lb_gguf_meta *m) {
    lb_meta_init(m, &arena);
    for (const lb_json *k = kv->first; k; k = k->next) {
        const lb_json *type = k->first->next, *v = type->next;
        lb_str key = lb_arena_str(&arena, k->first->text);
        u64 u = 0;
        lb_json_as_u64(v, &u);
        if (lb_str_eq_c(type->text, "uint32"))
            lb_meta_set_u32(m, key.ptr, (u32)u, &err);
        else if (lb_str_eq_c(type->text, "int32"))
            lb_meta_set_i32(m, key.ptr, (i32)u, &err);
        else if (lb_str_eq_c(type->text, "float32"))
            lb_meta_set_f32(m, key.ptr, lb_f32_from_bits((u32)u), &err);
        else if (lb_str_eq_c(type->text, "string") && v->type == LB_JSTRING)
            lb_meta_set_str(m, key.ptr, v->text, &err);
    }
}

/* What the GGUF of a golden case shows of its tensors, and its rope factors. */
static void read_tensors(const lb_json *c, const lb_arch *a, const lb_hparams *hp,
                         lb_arch_seen *seen, float *freqs, u64 *n_freqs) {
    const lb_json *list = lb_json_get(c, "rope_freqs");
    *seen = (lb_arch_seen){0};
    *n_freqs = 0;
    for (const lb_json *t = lb_json_get(c, "tensors")->first; t; t = t->next) {
        lb_arch_match x;
        lb_shape s = {.rank = 1};
        lb_json_as_u64(t->last->first, &s.dim[0]);
        if (lb_arch_find(a, hp, LB_WORLD_GGUF, t->first->text, &x))
            lb_arch_seen_add(seen, &x, &s);
    }
    for (const lb_json *v = list ? list->first : NULL; v; v = v->next) {
        u64 bits = 0;
        lb_json_as_u64(v, &bits);
        freqs[(*n_freqs)++] = lb_f32_from_bits((u32)bits);
    }
}

static bool same_rope(const lb_json *want, const lb_json *got) {
    static const char *const keys[] = {"rope_type",        "rope_theta", "factor",
                                       "attention_factor", "beta_fast",  "beta_slow"};
    const lb_json *full = lb_json_get(want, "full_attention");
    want = full ? full : want;
    for (size_t i = 0; i < LB_LEN(keys); i++) {
        const lb_json *w = lb_json_get(want, keys[i]), *g = lb_json_get(got, keys[i]);
        if (is_set(w) && !same_value(w, g))
            return false;
    }
    return true;
}

/* The config that comes from the metadata of a golden case, with the parameters it gives. */
static bool recover(const lb_json *c, lb_arch_config_out *out, lb_arch_normal *n) {
    lb_gguf_meta m;
    lb_arch_seen seen;
    float freqs[256];
    u64 n_freqs;
    lb_hparams hp;
    const lb_arch *a = NULL;
    lb_json *config;
    read_meta(lb_json_get(c, "kv"), &m);
    lb_status st = lb_arch_from_gguf(&m, true, &a, &hp, &err);
    if (st == LB_OK) {
        read_tensors(c, a, &hp, &seen, freqs, &n_freqs);
        lb_arch_config_in in = {.meta = &m,
                                .seen = &seen,
                                .rope_freqs = n_freqs ? freqs : NULL,
                                .n_rope_freqs = n_freqs,
                                .dtype = LB_BF16};
        st = lb_arch_config_from_meta(&in, &arena, out, &err);
    }
    if (st == LB_OK)
        st = lb_json_parse(out->config, "config.json", &arena, &config, &err);
    if (st == LB_OK)
        st = lb_arch_from_config(config, &a, &hp, &err);
    if (st == LB_OK)
        st = lb_arch_normalise(config, &arena, n, &err);
    lb_meta_deinit(&m);
    if (st != LB_OK || hp.n_vocab != seen.vocab_rows)
        lb_test_fail(__FILE__, __LINE__, "%.*s: %s", LB_FMT(arch_str(c, "label")), err.msg);
    return st == LB_OK;
}

/* Writes the result, or compares it with what was written before. */
static bool same_recovered(FILE *f, const lb_arch_config_out *out, const lb_json *golden,
                           bool last) {
    lb_buf t = {0};
    lb_buf_put_c(&t, "{\"config\": ");
    lb_json_write_str(&t, out->config, true);
    lb_buf_put_c(&t, ", \"generation\": ");
    lb_json_write_str(&t, out->generation, true);
    lb_buf_put_c(&t, ", \"notices\": [");
    for (u32 i = 0; i < out->n_notices; i++) {
        lb_buf_put_c(&t, i ? ", " : "");
        lb_json_write_str(&t, lb_str_c(out->notices[i]), true);
    }
    lb_buf_put_c(&t, "]}");
    bool ok = true;
    if (f) {
        fprintf(f, "%.*s%s\n", LB_FMT(lb_buf_str(&t)), last ? "" : ",");
    } else {
        lb_buf g = {0};
        lb_json_write(&g, golden, (lb_json_style){.ascii = true});
        ok = lb_str_eq(lb_buf_str(&g), lb_buf_str(&t));
        if (!ok)
            lb_test_fail(__FILE__, __LINE__, "%.*s, expected %.*s", LB_FMT(lb_buf_str(&t)),
                         LB_FMT(lb_buf_str(&g)));
        lb_buf_deinit(&g);
    }
    lb_buf_deinit(&t);
    return ok;
}

static void check_fields(const lb_json *c, const lb_arch_normal *n) {
    static const char *const fields[] = {"hidden_size",
                                         "intermediate_size",
                                         "num_hidden_layers",
                                         "num_attention_heads",
                                         "num_key_value_heads",
                                         "max_position_embeddings",
                                         "attention_bias",
                                         "mlp_bias",
                                         "final_logit_softcapping"};
    const lb_json *normal = lb_json_get(c, "normal");
    for (size_t i = 0; i < LB_LEN(fields); i++) {
        const lb_json *want = lb_json_get(normal, fields[i]);
        if (is_set(want) && !same_value(want, lb_json_get(n->config, fields[i])))
            lb_test_fail(__FILE__, __LINE__, "%.*s: %s differs", LB_FMT(arch_str(c, "label")),
                         fields[i]);
    }
    if (!same_rope(lb_json_get(normal, "rope_parameters"), n->rope) ||
        !same_rope(lb_json_path(normal, "rope_parameters.sliding_attention"), n->rope_local))
        lb_test_fail(__FILE__, __LINE__, "%.*s: rope differs", LB_FMT(arch_str(c, "label")));
}

LB_TEST(from_metadata) {
    const lb_json *all = arch_golden("recovered.json", &arena);
    const char *lists[2][3] = {{"convert.json", "cases", "configs"},
                               {"foreign.json", "cases", "foreign"}};
    FILE *f = getenv("LB_TEST_WRITE") ? fopen(getenv("LB_TEST_WRITE"), "w") : NULL;
    for (size_t l = 0; l < 2; l++) {
        const lb_json *cases = lb_json_get(arch_golden(lists[l][0], &arena), lists[l][1]);
        const lb_json *golden = lb_json_get(all, lists[l][2]);
        const lb_json *g = golden ? golden->first : NULL;
        CHECK(cases && cases->n && (f || (golden && golden->n == cases->n)));
        if (f)
            fprintf(f, "%s\"%s\": [\n", l ? "],\n" : "{", lists[l][2]);
        for (const lb_json *c = cases->first; c; c = c->next) {
            lb_arch_config_out out;
            lb_arch_normal n;
            CHECK(recover(c, &out, &n));
            CHECK(!out.original);
            if (l == 0)
                check_fields(c, &n);
            CHECK(same_recovered(f, &out, g, !c->next));
            g = g ? g->next : NULL;
        }
    }
    if (f) {
        fprintf(f, "]}\n");
        fclose(f);
    }
}

/* ---- what has no form in config.json is refused or reported ---- */

static lb_status back_as(const char *arch, const char *key, lb_gguf_kv kv,
                         lb_arch_config_out *out) {
    static const struct {
        const char *key;
        u32 v;
    } base[] = {{"block_count", 2},          {"context_length", 128},
                {"embedding_length", 64},    {"feed_forward_length", 96},
                {"attention.head_count", 4}, {"attention.head_count_kv", 2}};
    lb_gguf_meta m;
    lb_arch_seen seen = {.vocab_rows = 100};
    lb_arch_config_in in = {.meta = &m, .seen = &seen, .dtype = LB_F16};
    lb_meta_init(&m, &arena);
    lb_meta_set_str(&m, "general.architecture", lb_str_c(arch), NULL);
    for (size_t i = 0; i < LB_LEN(base); i++)
        lb_meta_set_u32(&m, lb_arena_printf(&arena, "%s.%s", arch, base[i].key).ptr, base[i].v,
                        NULL);
    lb_meta_set_f32(&m, lb_arena_printf(&arena, "%s.attention.layer_norm_rms_epsilon", arch).ptr,
                    1e-5f, NULL);
    kv.key = lb_str_c(key);
    lb_meta_set(&m, &kv, NULL);
    err = (lb_err){0};
    lb_status st = lb_arch_config_from_meta(&in, &arena, out, &err);
    lb_meta_deinit(&m);
    return st;
}

static lb_status back_with(const char *key, lb_gguf_kv kv, lb_arch_config_out *out) {
    return back_as("llama", key, kv, out);
}

/* The model's metadata, in the arena. */
static lb_status meta_from(const char *text, lb_gguf_meta *m) {
    lb_json *c;
    const lb_arch *a;
    lb_hparams hp;
    lb_meta_init(m, &arena);
    LB_TRY(lb_json_parse(lb_str_c(text), "t", &arena, &c, &err));
    LB_TRY(lb_arch_from_config(c, &a, &hp, &err));
    return lb_arch_meta_model(a, c, m, &err);
}

/* A rope base that the loader takes for granted is not written. */
LB_TEST(usual_rope_base) {
    static const char *const types[] = {"stablelm", "gemma", "gemma2"};
    for (size_t i = 0; i < LB_LEN(types); i++) {
        lb_gguf_meta m;
        const char *more[] = {"", ", \"rope_theta\": 10000", ", \"rope_theta\": 10000.0"};
        for (size_t k = 0; k < LB_LEN(more); k++) {
            CHECK_OK(meta_from(
                lb_arena_printf(&arena, "{\"model_type\": \"%s\"%s}", types[i], more[k]).ptr, &m));
            CHECK(!lb_meta_find_arch(&m, lb_str_c(types[i]), "rope.freq_base"));
            lb_meta_deinit(&m);
        }
    }
}

/* Embedding models without a causal mask (GTE Qwen 2), of families with keys of their own too. */
LB_TEST(no_causal_mask) {
    static const char *const types[] = {"qwen2", "gemma2", "stablelm", "llama"};
    lb_gguf_kv no = {.type = LB_GGUF_BOOL}, yes = {.type = LB_GGUF_BOOL, .v.u = 1};
    lb_arch_config_out out;
    for (size_t i = 0; i < LB_LEN(types); i++) {
        lb_gguf_meta m;
        bool causal = true;
        for (int k = 0; k < 2; k++) {
            CHECK_OK(
                meta_from(lb_arena_printf(&arena, "{\"model_type\": \"%s\", \"is_causal\": %s}",
                                          types[i], k ? "true" : "false")
                              .ptr,
                          &m));
            const lb_gguf_kv *kv = lb_meta_find_arch(&m, lb_str_c(types[i]), "attention.causal");
            CHECK(k ? !kv : lb_kv_as_bool(kv, &causal) && !causal);
            lb_meta_deinit(&m);
        }
    }
    CHECK_OK(back_with("llama.attention.causal", no, &out));
    CHECK(strstr(out.config.ptr, "\"is_causal\": false") && out.n_notices == 0);
    CHECK_OK(back_with("llama.attention.causal", yes, &out));
    CHECK(!strstr(out.config.ptr, "is_causal") && out.n_notices == 0);
}

#define U32(x) ((lb_gguf_kv){.type = LB_GGUF_U32, .v.u = (x)})
#define F32(x) ((lb_gguf_kv){.type = LB_GGUF_F32, .v.f = (x)})
#define STR(x) ((lb_gguf_kv){.type = LB_GGUF_STR, .v.s = LB_STR(x)})

LB_TEST(refusals) {
    lb_arch_config_out out;
    static const i32 differs[] = {96, 128}, equal[] = {96, 96};
    lb_gguf_kv list = {.type = LB_GGUF_ARRAY, .elem = LB_GGUF_I32, .n = 2, .v.array = differs};
    CHECK_OK(back_with("general.file_type", U32(1), &out));
    CHECK_U64(out.n_notices, 0);
    CHECK_U64(back_with("llama.rope.dimension_count", U32(8), &out), LB_E_UNSUPPORTED);
    CHECK_U64(back_with("llama.attention.value_length", U32(8), &out), LB_E_UNSUPPORTED);
    CHECK_U64(back_with("llama.rope.scaling.type", STR("longrope"), &out), LB_E_UNSUPPORTED);
    CHECK_U64(back_with("llama.expert_count", U32(8), &out), LB_E_FORMAT);
    CHECK_U64(back_with("llama.attention.head_count_kv", U32(3), &out), LB_E_FORMAT);
    CHECK_U64(back_with("llama.attention.head_count", U32(0), &out), LB_E_FORMAT);
    CHECK_U64(back_with("llama.block_count", STR("x"), &out), LB_E_FORMAT);
    CHECK_U64(back_with("general.architecture", STR("mamba"), &out), LB_E_UNSUPPORTED);
    CHECK(strstr(err.msg, "mamba") && strstr(err.msg, "gemma3"));
    CHECK_U64(back_with("llama.context_length", list, &out), LB_E_UNSUPPORTED);
    list.v.array = equal;
    CHECK_OK(back_with("llama.context_length", list, &out));
    CHECK_OK(back_with("tokenizer.ggml.suppress_tokens", list, &out));
    CHECK(strstr(out.generation.ptr, "\"suppress_tokens\": [\n    96,\n    96\n  ]"));
    CHECK_OK(back_with("llama.logit_scale", F32(2), &out));
    CHECK_U64(out.n_notices, 1);
    CHECK(strstr(out.notices[0], "llama.logit_scale"));
    /* the loader's rule: without a type a factor is linear, under its old name too */
    CHECK_OK(back_with("llama.rope.scale_linear", F32(4), &out));
    CHECK(strstr(out.config.ptr, "\"rope_scaling\": {\n    \"factor\": 4.0"));
    CHECK_OK(back_with("llama.rope.scaling.type", STR("none"), &out));
    CHECK(!strstr(out.config.ptr, "rope_scaling"));
}

static const float halves[] = {1, 1.5f, 2, 4};

/* longrope's factor as a config says it, in metadata; and back: what is in the config then. */
static void check_longrope(const char *more, float want, const char *back) {
    lb_json *c;
    const lb_arch *a;
    lb_hparams hp;
    lb_gguf_meta m;
    lb_arch_made_tensor *made;
    u32 n_made;
    double v = 0;
    size_t at;
    lb_arch_seen seen = {.vocab_rows = 9};
    lb_arch_config_out out = {0};
    lb_str text = lb_arena_printf(
        &arena,
        "{\"model_type\": \"phi3\", \"hidden_size\": 64, \"num_attention_heads\": 8, "
        "\"max_position_embeddings\": 131072, \"rope_scaling\": {\"type\": \"su\", "
        "\"long_factor\": [1, 1.5, 2, 4], \"short_factor\": [1, 1.5, 2, 4.0]%s}}",
        more);
    err = (lb_err){0};
    lb_meta_init(&m, &arena);
    CHECK_OK(lb_json_parse(text, "t", &arena, &c, &err));
    CHECK_OK(lb_arch_from_config(c, &a, &hp, &err));
    CHECK_OK(lb_arch_made(a, c, &arena, &made, &n_made, &err));
    CHECK_U64(n_made, 2);
    CHECK(memcmp(made[0].values, halves, sizeof halves) == 0);
    CHECK_OK(lb_arch_meta_model(a, c, &m, &err));
    CHECK_STR(m.kv[1].key, "phi3.rope.scaling.attn_factor");
    CHECK(lb_kv_as_f64(&m.kv[1], &v) && (float)v == want);
    lb_arch_config_in in = {.meta = &m,
                            .seen = &seen,
                            .rope_long = made[0].values,
                            .rope_short = made[1].values,
                            .n_rope_long = 4,
                            .dtype = LB_BF16};
    CHECK_OK(lb_arch_config_from_meta(&in, &arena, &out, &err));
    CHECK_U64(lb_str_find(out.config, LB_STR("attention_factor"), &at), back != NULL);
    CHECK(!back || lb_str_find(out.config, lb_str_c(back), &at));
    lb_meta_remove(&m, "phi3.rope.scaling.original_context_length"); /* the loader: the whole */
    CHECK_OK(lb_arch_config_from_meta(&in, &arena, &out, &err));
    CHECK(lb_str_find(out.config, LB_STR("\"original_max_position_embeddings\": 131072"), &at));
    in.n_rope_long = 3;
    CHECK_U64(lb_arch_config_from_meta(&in, &arena, &out, &err), LB_E_FORMAT);
    lb_meta_deinit(&m);
}

LB_TEST(longrope_factor) {
    check_longrope("", 1.1902381f, NULL); /* sqrt(1 + ln 32 / ln 4096) */
    check_longrope(", \"factor\": 1.0", 1, "\"attention_factor\": 1.0");
    check_longrope(", \"factor\": 2, \"attention_factor\": 1.25", 1.25f,
                   "\"attention_factor\": 1.25");
}

/* The share of a head comes back as the quotient, or as the shortest number that gives it. */
LB_TEST(share_of_a_head) {
    lb_arch_config_out out;
    static const struct {
        u32 dims;
        const char *text;
    } rows[] = {{16, "\"partial_rotary_factor\": 1.0"},
                {12, "\"partial_rotary_factor\": 0.75"},
                {5, "\"partial_rotary_factor\": 0.3125"},
                {1, "\"partial_rotary_factor\": 0.0625"}};
    for (size_t i = 0; i < LB_LEN(rows); i++) {
        CHECK_OK(back_as("phi3", "phi3.rope.dimension_count", U32(rows[i].dims), &out));
    }
    CHECK_OK(back_as("phi3", "phi3.embedding_length", U32(384), &out));
    CHECK_OK(back_as("phi3", "phi3.attention.key_length", U32(96), &out)); /* all are rotated */
    CHECK(strstr(out.config.ptr, rows[0].text));
    CHECK_U64(back_as("phi3", "phi3.rope.dimension_count", U32(17), &out), LB_E_FORMAT);
    CHECK_U64(back_as("phi3", "phi3.rope.dimension_count", U32(0), &out), LB_E_FORMAT);
}

LB_TEST(original_text_comes_back) {
    lb_arch_config_out out;
    CHECK_OK(back_with(LB_KEY_HF_CONFIG, STR("{ \"x\":1,\"torch_dtype\":\"bfloat16\" }\n"), &out));
    CHECK(out.original);
    CHECK_STR(out.config, "{ \"x\":1,\"torch_dtype\":\"float16\" }\n");
    CHECK_U64(back_with(LB_KEY_HF_CONFIG, STR("{ \"x\":"), &out), LB_E_FORMAT);
    CHECK(strstr(err.msg, LB_KEY_HF_CONFIG));
}

/* ---- families ---- */

static lb_status family_of(const char *text, const char **name) {
    lb_json *c;
    const lb_arch *a = NULL;
    lb_hparams hp;
    err = (lb_err){0};
    if (lb_json_parse(lb_str_c(text), "t", &arena, &c, &err) != LB_OK)
        return LB_E_FORMAT;
    lb_status st = lb_arch_from_config(c, &a, &hp, &err);
    *name = a ? lb_arch_name(a) : NULL;
    return st;
}

LB_TEST(families) {
    const char *n;
    CHECK_OK(family_of("{\"architectures\": [\"MistralForCausalLM\"], \"model_type\": \"mistral\"}",
                       &n));
    CHECK(strcmp(n, "llama") == 0);
    CHECK_OK(family_of("{\"model_type\": \"qwen3\"}", &n));
    CHECK(strcmp(n, "qwen3") == 0);
    CHECK_U64(family_of("{\"architectures\": [\"LlamaForCausalLMEagle3\"]}", &n), LB_E_UNSUPPORTED);
    CHECK(strstr(err.msg, "LlamaForCausalLMEagle3: an EAGLE-3 draft model"));
    /* known, but no config of its kind */
    CHECK_U64(family_of("{\"architectures\": [\"Gemma3ForConditionalGeneration\"]}", &n),
              LB_E_FORMAT);
    CHECK_OK(
        family_of("{\"architectures\": [\"PhimoeForCausalLM\"], \"model_type\": \"phimoe\"}", &n));
    CHECK(strcmp(n, "phimoe") == 0);
    CHECK_U64(family_of("{\"architectures\": [\"FooForCausalLM\"]}", &n), LB_E_UNSUPPORTED);
    CHECK(strstr(err.msg, "FooForCausalLM") && strstr(err.msg, "(known: ") &&
          strstr(err.msg, ", llama, "));
    for (u32 i = 0; lb_arch_at(i, &n); i++)
        CHECK(strstr(err.msg, n));
    /* what is near to a known one is said */
    CHECK_U64(
        family_of("{\"architectures\": [\"FooForConditionalGeneration\"], \"model_type\": \"foo\","
                  "\"vision_config\": {\"model_type\": \"clip\"},"
                  "\"llm_config\": {\"architectures\": [\"Qwen2ForCausalLM\"]}}",
                  &n),
        LB_E_UNSUPPORTED);
    CHECK(strstr(err.msg, "'FooForConditionalGeneration'") &&
          strstr(err.msg, "'llm_config' is one (qwen2)"));
    CHECK_U64(family_of("{\"architectures\": [\"Gemma2ForSequenceClassification\"],"
                        "\"model_type\": \"gemma2\"}",
                        &n),
              LB_E_UNSUPPORTED);
    CHECK(strstr(err.msg, "not a known class of gemma2") &&
          strstr(err.msg, "name Gemma2ForCausalLM"));
    CHECK_U64(family_of("{\"model_type\": \"mamba\"}", &n), LB_E_UNSUPPORTED);
    CHECK_U64(family_of("{}", &n), LB_E_FORMAT);
    CHECK_U64(family_of("[]", &n), LB_E_FORMAT);
    CHECK_U64(family_of("{\"architectures\": [\"LlamaForCausalLM\"]}", &n), LB_E_FORMAT);
    CHECK_U64(family_of("{\"model_type\": \"llama\", \"num_key_value_heads\": 3}", &n),
              LB_E_FORMAT);
}

/* A config read is the model that its metadata is read as, whatever names it uses and lacks. */
static void check_both_ways(const char *more) {
    lb_str text =
        lb_arena_printf(&arena,
                        "{\"hidden_size\": 64, \"intermediate_size\": 8, \"vocab_size\": 9, "
                        "\"rms_norm_eps\": 1e-6, %s}",
                        more);
    lb_json *c;
    const lb_arch *a, *b;
    lb_hparams hp, back;
    lb_gguf_meta m;
    lb_meta_init(&m, &arena);
    CHECK_OK(lb_json_parse(text, "t", &arena, &c, &err));
    CHECK_OK(lb_arch_from_config(c, &a, &hp, &err));
    CHECK_OK(lb_arch_meta_model(a, c, &m, &err));
    CHECK_OK(lb_arch_from_gguf(&m, true, &b, &back, &err));
    CHECK_U64(hp.n_layers, back.n_layers);
    CHECK_U64(hp.n_ff, back.n_ff);
    CHECK_U64(hp.n_head, back.n_head);
    CHECK_U64(hp.n_head_kv, back.n_head_kv);
    CHECK_U64(hp.head_dim, back.head_dim);
    lb_meta_deinit(&m);
}

LB_TEST(names_of_numbers) {
    check_both_ways("\"architectures\": [\"LlamaForCausalLM\"], \"n_layers\": 3, "
                    "\"num_hidden_layers\": 2, \"num_attention_heads\": 8");
    check_both_ways("\"architectures\": [\"LlamaForCausalLM\"], \"num_hidden_layers\": 2, "
                    "\"dense_intermediate_size\": 16, \"num_attention_heads\": 8");
    /* gemma3's own rows, behind the common ones, when its config class refuses the file */
    check_both_ways("\"architectures\": [\"Gemma3ForCausalLM\"], \"num_hidden_layers\": 2, "
                    "\"num_attention_heads\": 8");
    check_both_ways("\"architectures\": [\"Gemma3ForCausalLM\"], \"num_hidden_layers\": 2, "
                    "\"n_head\": 4, \"num_key_value_heads\": 2, \"head_dim\": null");
}

/* Where the reference writes what makes another model: the config's own values. */
LB_TEST(values_of_the_config) {
    static const struct {
        const char *type, *more, *key;
        double want;
    } rows[] = {
        /* Minitron 8B: half of a head, which is not 4096 / 48 */
        {"nemotron", "\"hidden_size\": 4096, \"num_attention_heads\": 48, \"head_dim\": 128",
         "nemotron.rope.dimension_count", 64},
        {"phimoe",
         "\"rope_scaling\": {\"type\": \"longrope\", \"long_factor\": [], \"short_factor\": [], "
         "\"original_max_position_embeddings\": 4096, \"long_mscale\": 1.25, "
         "\"short_mscale\": 1.25}",
         "phimoe.rope.scaling.attn_factor", 1.25},
        {"minimax_m2", "\"partial_rotary_factor\": 0.5", "minimax-m2.rope.dimension_count", 64},
        {"minimax_m2", "\"rotary_dim\": 32", "minimax-m2.rope.dimension_count", 32},
        {"minimax_m2", "\"head_dim\": 96", "minimax-m2.expert_gating_func", 2},
        {"glm", "\"max_position_embeddings\": 8192", "chatglm.context_length", 8192},
        {"glm", "\"rope_theta\": 5000000.0", "chatglm.rope.freq_base", 5000000},
        /* Stable Code 3B */
        {"stablelm", "\"rope_theta\": 1000000", "stablelm.rope.freq_base", 1000000},
        {"gemma", "\"rope_theta\": 20000.0", "gemma.rope.freq_base", 20000},
        {"gemma2", "\"rope_theta\": 20000.0", "gemma2.rope.freq_base", 20000},
        {"glm", "\"rms_norm_eps\": 0.5", "chatglm.attention.layer_norm_rms_epsilon", 0.5},
    };
    for (size_t i = 0; i < LB_LEN(rows); i++) {
        lb_gguf_meta m;
        double v = 0;
        u64 n = 0;
        CHECK_OK(meta_from(
            lb_arena_printf(&arena, "{\"model_type\": \"%s\", %s}", rows[i].type, rows[i].more).ptr,
            &m));
        const lb_gguf_kv *kv = lb_meta_find(&m, rows[i].key);
        CHECK(kv && (lb_kv_as_f64(kv, &v) || lb_kv_as_u64(kv, &n)));
        CHECK(v == rows[i].want || (double)n == rows[i].want);
        lb_meta_deinit(&m);
    }
}

/* Keys under the family's names; a number a layer becomes one and the layers' types. */
LB_TEST(back_by_family) {
    lb_arch_config_out out;
    static const i32 types[] = {2, 0}, differs[] = {2, 4}, none[] = {2};
    lb_gguf_kv list = {.type = LB_GGUF_ARRAY, .elem = LB_GGUF_I32, .n = 2, .v.array = types};
    CHECK_OK(back_as("lfm2", "lfm2.attention.head_count_kv", list, &out));
    CHECK(strstr(out.config.ptr, "\"layer_types\": [\n    \"full_attention\",\n    \"conv\"\n  ]"));
    CHECK(strstr(out.config.ptr, "\"num_key_value_heads\": 2,"));
    CHECK(strstr(out.config.ptr, "\"block_dim\": 64,") &&
          strstr(out.config.ptr, "\"norm_eps\": 1e-05"));
    CHECK(!strstr(out.config.ptr, "rms_norm_eps"));
    list.v.array = differs;
    CHECK_U64(back_as("lfm2", "lfm2.attention.head_count_kv", list, &out), LB_E_UNSUPPORTED);
    list.v.array = none;
    list.n = 1;
    CHECK_U64(back_as("lfm2", "lfm2.attention.head_count_kv", list, &out), LB_E_FORMAT);
    CHECK_U64(back_as("gpt2", "gpt2.attention.layer_norm_epsilon", F32(1e-5), &out),
              LB_E_UNSUPPORTED); /* half as many key-value heads */
    CHECK(strstr(err.msg, "key-value heads"));
    CHECK_OK(back_as("internlm2", "general.file_type", U32(1), &out));
    CHECK(out.n_notices == 1 && strstr(out.notices[0], "InternLM2ForCausalLM"));
}

/* A config without its layers of multi-token prediction counts none, in each family that has them.
 */
LB_TEST(without_mtp) {
    static const struct {
        const char *type, *key;
    } rows[] = {{"deepseek_v3", "num_nextn_predict_layers"},
                {"glm4_moe", "num_nextn_predict_layers"},
                {"ernie4_5_moe", "num_nextn_predict_layers"},
                {"qwen3_next", "mtp_num_hidden_layers"}};
    for (size_t i = 0; i < LB_LEN(rows); i++) {
        lb_buf out = {0};
        lb_json *c = NULL;
        u64 n = 9;
        const lb_arch *a = lb_arch_by_model_type(lb_str_c(rows[i].type));
        lb_str text = lb_arena_printf(&arena, "{\"model_type\": \"%s\", \"%s\": 1}", rows[i].type,
                                      rows[i].key);
        CHECK_OK(lb_arch_config_without(a, LB_EXTRA_MTP, text, &out, &err));
        CHECK_OK(lb_json_parse(lb_buf_str(&out), "config.json", &arena, &c, &err));
        if (!lb_json_as_u64(lb_json_get(c, rows[i].key), &n) || n != 0)
            lb_test_fail(__FILE__, __LINE__, "%s: %.*s", rows[i].type, LB_FMT(lb_buf_str(&out)));
        lb_buf_deinit(&out);
    }
    lb_arena_deinit(&arena);
}

LB_TEST_MAIN("fast")
