/* SPDX-License-Identifier: Apache-2.0 */
/* test_convert.c: conversions of made-up models there and back: every value, every text, whatever
 * the threads, the budget and the cut into files; what cannot be converted is refused by name. */
#include "ops/convert.h"
#include "base/cpu.h"
#include "base/hash.h"
#include "base/os.h"
#include "fake_model.h"
#include "io/json.h"
#include "ops/open.h"
#include "st_files.h"
#include "test.h"

/* ---- running a conversion ---- */

typedef struct result {
    lb_out_report report;
    lb_buf plan, remarks;
} result;

static lb_status convert_to(const char *in, const char *out, const lb_convert_opts *opts, result *r,
                            lb_err *err) {
    lb_kernels k;
    lb_source *s = NULL;
    lb_convert_opts o = opts ? *opts : (lb_convert_opts){0};
    result here = {0};
    lb_kernels_init(&k, lb_cpu_isa());
    o.w.kernels = &k;
    o.w.output = out;
    o.w.no_sync = true;
    o.verb = o.verb ? o.verb : "convert";
    o.w.memory_bytes = o.w.memory_bytes ? o.w.memory_bytes : 64 * LB_MIB;
    o.w.threads = o.w.threads ? o.w.threads : 2;
    lb_status st = lb_open(&s, in, err);
    if (st == LB_OK)
        st = lb_convert(s, &o, &here.plan, &here.remarks, &here.report, err);
    lb_source_close(&s);
    if (r) {
        *r = here;
        return st;
    }
    lb_buf_deinit(&here.plan);
    lb_buf_deinit(&here.remarks);
    return st;
}

static void drop(result *r) {
    lb_buf_deinit(&r->plan);
    lb_buf_deinit(&r->remarks);
}

#define TO(format)                   \
    &(lb_convert_opts) {             \
        .w = {.to = LB_TO_##format } \
    }
/* The made-up vocabulary's check hash is in no table. */
static const char *const pre_gpt2[] = {"tokenizer.ggml.pre=str:gpt-2"};
#define TO_GGUF                                              \
    &(lb_convert_opts) {                                     \
        .w = {.to = LB_TO_GGUF}, .set = pre_gpt2, .n_set = 1 \
    }
#define TO_GGUF_PLAIN                                                               \
    &(lb_convert_opts) {                                                            \
        .w = {.to = LB_TO_GGUF, .no_provenance = true}, .set = pre_gpt2, .n_set = 1 \
    }

/* Path under the test's folder at which nothing stands. */
static const char *fresh(const char *name) {
    static char ring[32][512]; /* a test keeps at most eight of them over calls of others */
    static u32 at;
    lb_err err = {0};
    char *p = ring[at++ % LB_LEN(ring)];
    (void)snprintf(p, sizeof ring[0], "%s/%s", lb_test_dir(), name);
    (void)lb_os_remove_tree(p, &err);
    return p;
}

static const char *folder_at(const char *name) {
    lb_err err = {0};
    const char *p = fresh(name);
    (void)lb_os_mkdir(p, false, &err); /* what is written there fails else */
    return p;
}

/* ---- comparing ---- */

static u8 *bytes_of(const lb_source *s, const lb_tensor *t) {
    lb_err err = {0};
    int fd = -1;
    u8 *p = lb_alloc(t->size_bytes + 1);
    bool ok =
        p && lb_os_open_read(s->files[t->file].path, &fd, &err) == LB_OK &&
        lb_os_pread(fd, s->files[t->file].path, p, t->size_bytes, t->off_bytes, &err) == LB_OK;
    lb_os_close(&fd);
    if (ok)
        return p;
    lb_free(p);
    return NULL;
}

/* Every stored tensor of one is in the other, with its type, shape and bytes; says where not. */
static bool same_tensors(const char *a, const char *b) {
    lb_err err = {0};
    lb_source *x = NULL, *y = NULL;
    bool ok = lb_open(&x, a, &err) == LB_OK && lb_open(&y, b, &err) == LB_OK;
    if (!ok)
        printf("    %s\n", err.msg);
    if (ok && x->n_tensors != y->n_tensors) {
        printf("    %llu and %llu tensors\n", (unsigned long long)x->n_tensors,
               (unsigned long long)y->n_tensors);
        ok = false;
    }
    for (u64 i = 0; ok && i < x->n_tensors; i++) {
        const lb_tensor *t = &x->tensors[i], *u = lb_source_tensor(y, t->name);
        ok = u && u->dtype == t->dtype && lb_shape_eq(&t->shape, &u->shape);
        if (ok) {
            u8 *p = bytes_of(x, t), *q = bytes_of(y, u);
            ok = p && q && memcmp(p, q, t->size_bytes) == 0;
            lb_free(p);
            lb_free(q);
        }
        if (!ok)
            printf("    %.*s differs\n", LB_FMT(t->name));
    }
    lb_source_close(&x);
    lb_source_close(&y);
    return ok;
}

static bool same_file(const char *a, const char *b) {
    size_t n = 0, m = 0;
    if (!lb_os_exists(a) || !lb_os_exists(b))
        return false;
    u8 *p = st_slurp(a, &n), *q = st_slurp(b, &m);
    bool same = n == m && memcmp(p, q, n) == 0;
    lb_free(p);
    lb_free(q);
    return same;
}

/* Equal names and bytes: what "the same output" means. */
static bool same_folder(const char *a, const char *b) {
    lb_err err = {0};
    lb_arena arena = {0};
    lb_str *x, *y;
    u64 n = 0, m = 0;
    bool same = lb_os_list(a, &arena, &x, &n, &err) == LB_OK &&
                lb_os_list(b, &arena, &y, &m, &err) == LB_OK && n == m && n > 0;
    for (u64 i = 0; same && i < n; i++) {
        same = lb_str_eq(x[i], y[i]) &&
               same_file(lb_os_join(&arena, a, x[i]), lb_os_join(&arena, b, y[i]));
        if (!same)
            printf("    %.*s differs\n", LB_FMT(x[i]));
    }
    lb_arena_deinit(&arena);
    return same;
}

static bool holds(const char *path, const char *text) {
    size_t n, at;
    u8 *p = st_slurp(path, &n);
    bool found = lb_str_find((lb_str){(const char *)p, n}, lb_str_c(text), &at);
    lb_free(p);
    return found;
}

/* ---- models ---- */

static const fm_family families[] = {FM_LLAMA, FM_QWEN2, FM_QWEN3, FM_GEMMA3};
static const lb_dtype floats[] = {LB_F32, LB_F16, LB_BF16};

/* A made-up HF folder with tokenizer files, which a made-up GGUF of the family gives. */
static lb_status model(const char *dir, const fm_spec *spec, lb_err *err) {
    static const char *const texts[] = {"tokenizer.json", "tokenizer.model",
                                        "tokenizer_config.json"};
    lb_arena arena = {0};
    const char *gguf = NULL, *g = folder_at("vocabulary-gguf"), *v = fresh("vocabulary");
    fm_spec small = fm_tiny(spec->family);
    lb_status st = fm_write_gguf(g, "v", &small, &arena, &gguf, err);
    if (st == LB_OK)
        st = convert_to(gguf, v, TO(HF), NULL, err);
    lb_arena_deinit(&arena);
    LB_TRY(st);
    for (u32 i = 0; i < LB_LEN(texts); i++)
        if (lb_os_exists(st_path(v, texts[i])))
            st_copy(st_path(v, texts[i]), dir, texts[i]);
    return fm_write_hf(dir, spec, err);
}

/* ---- there and back ---- */

static void round_trip(fm_family family, lb_dtype dtype, u64 shard) {
    lb_err err = {0};
    fm_spec spec = fm_tiny(family);
    spec.dtype = dtype;
    spec.max_file_bytes = shard;
    spec.tied = shard != 0 || family == FM_GEMMA3;
    const char *hf = folder_at("hf"), *gguf = fresh("m.gguf"), *back = fresh("back");
    const char *mlx = fresh("mlx"), *plain = fresh("plain.gguf"), *around = fresh("around");
    CHECK_OK(model(hf, &spec, &err));
    CHECK_OK(convert_to(hf, gguf, TO_GGUF, NULL, &err));
    CHECK_OK(convert_to(gguf, back, TO(HF), NULL, &err));
    CHECK(same_tensors(hf, back));
    CHECK(same_file(st_path(hf, "config.json"), st_path(back, "config.json")));
    CHECK(same_file(st_path(hf, "tokenizer_config.json"), st_path(back, "tokenizer_config.json")));
    CHECK_OK(convert_to(hf, mlx, TO(MLX), NULL, &err));
    back = fresh("back");
    CHECK_OK(convert_to(mlx, back, TO(HF), NULL, &err));
    CHECK(same_tensors(hf, back));
    /* a GGUF that keeps nothing of ours, and all three formats in a ring */
    CHECK_OK(convert_to(mlx, plain, TO_GGUF_PLAIN, NULL, &err));
    CHECK(!holds(plain, "lbrx."));
    CHECK_OK(convert_to(plain, around, TO(HF), NULL, &err));
    CHECK(same_tensors(hf, around));
}

LB_TEST(round_trips) {
    for (u32 f = 0; f < LB_LEN(families); f++)
        for (u32 d = 0; d < LB_LEN(floats); d++) {
            round_trip(families[f], floats[d], 0);
            round_trip(families[f], floats[d], 150000);
        }
}

/* The made-up values are the same numbers in each type. */
LB_TEST(dtype_changes_the_type_alone) {
    lb_err err = {0};
    for (u32 f = 0; f < LB_LEN(families); f++)
        for (u32 a = 0; a < LB_LEN(floats); a++)
            for (u32 b = 0; b < LB_LEN(floats); b++) {
                fm_spec from = fm_tiny(families[f]), to = from;
                from.dtype = floats[a];
                to.dtype = floats[b];
                const char *x = folder_at("from"), *y = folder_at("to"), *out = fresh("out");
                CHECK_OK(fm_write_hf(x, &from, &err));
                CHECK_OK(fm_write_hf(y, &to, &err));
                lb_convert_opts o = {.cast = true, .dtype = floats[b], .w = {.lossless = true}};
                CHECK_OK(convert_to(x, out, &o, NULL, &err));
                CHECK(same_tensors(y, out));
            }
}

LB_TEST(plain_copy_keeps_the_texts) {
    lb_err err = {0};
    fm_spec spec = fm_tiny(FM_LLAMA);
    const char *hf = folder_at("hf"), *out = fresh("out");
    CHECK_OK(model(hf, &spec, &err));
    /* bytes that no writer of JSON would make */
    st_text(hf, "tokenizer_config.json",
            "{ \"a\" :1e-05,\n\t\"model_max_length\": 1000000000000000019884624838656 }\n\n");
    st_text(hf, "chat_template.jinja", "{{ x }}");
    CHECK_OK(convert_to(hf, out, TO(HF), NULL, &err));
    CHECK(same_file(st_path(hf, "config.json"), st_path(out, "config.json")));
    CHECK(same_file(st_path(hf, "tokenizer_config.json"), st_path(out, "tokenizer_config.json")));
    CHECK(same_file(st_path(hf, "tokenizer.model"), st_path(out, "tokenizer.model")));
    CHECK(same_file(st_path(hf, "chat_template.jinja"), st_path(out, "chat_template.jinja")));
    CHECK(same_tensors(hf, out));
}

/* What MLX is to map: matrices layer after layer, each of whole pages on its own page; an index
 * for one file, too. A folder's files are sorted by letters: layer 10 stands before layer 2. */
LB_TEST(mlx_lies_in_pages) {
    enum { PAGE = 16384, LAYERS = 11 };
    lb_err err = {0};
    lb_source *s = NULL;
    fm_spec spec = fm_tiny(FM_LLAMA);
    spec.n_layers = LAYERS;
    spec.hidden = 128;
    const char *hf = folder_at("hf"), *mlx = fresh("mlx"), *again = fresh("again");
    CHECK_OK(model(hf, &spec, &err));
    CHECK_OK(convert_to(hf, mlx, TO(MLX), NULL, &err));
    CHECK(lb_os_exists(st_path(mlx, "model.safetensors.index.json")));
    CHECK_OK(lb_open(&s, mlx, &err));
    u64 n_pages = 0, end = s->tensors[0].off_bytes;
    CHECK(end % PAGE == 0);
    for (u64 i = 0; i < s->n_tensors; i++) {
        const lb_tensor *t = &s->tensors[i];
        CHECK_U64(t->off_bytes, end); /* no holes */
        end = t->off_bytes + t->size_bytes;
        bool whole = t->size_bytes % PAGE == 0;
        CHECK(!whole || (t->off_bytes % PAGE == 0 && n_pages == i));
        CHECK(i == n_pages || !whole);
        CHECK(i == 0 || i == n_pages || lb_str_cmp_natural(s->tensors[i - 1].name, t->name) < 0);
        n_pages += whole;
    }
    CHECK(n_pages >= LAYERS);
    lb_source_close(&s);
    CHECK_OK(convert_to(mlx, again, TO(MLX), NULL, &err)); /* a copy is laid out alike */
    CHECK(same_tensors(mlx, again));
    const char *back = fresh("back");
    CHECK_OK(convert_to(mlx, back, TO(HF), NULL, &err));
    CHECK(lb_os_exists(st_path(back, "model.safetensors.index.json")));
}

/* ---- the same bytes always ---- */

LB_TEST(threads_and_budgets_change_no_byte) {
    static const u32 threads[] = {1, 2, 7};
    lb_err err = {0};
    fm_spec spec = fm_tiny(FM_GEMMA3);
    const char *hf = folder_at("hf"), *one = fresh("one.gguf"), *many = fresh("many.gguf");
    const char *folder = fresh("folder"), *again = fresh("again");
    spec.max_file_bytes = 400000;
    CHECK_OK(model(hf, &spec, &err));
    CHECK_OK(convert_to(hf, one, TO_GGUF, NULL, &err));
    lb_convert_opts f16 = {.cast = true, .dtype = LB_F16, .w = {.to = LB_TO_HF}};
    CHECK_OK(convert_to(one, folder, &f16, NULL, &err));
    for (u32 t = 0; t < LB_LEN(threads); t++) {
        /* down to a budget that is refused: the one before it is the smallest that fits */
        u32 n_fit = 0;
        lb_status st = LB_OK;
        for (u64 memory = 64 * LB_MIB; st == LB_OK && memory >= 64 * LB_KIB; memory /= 2) {
            lb_convert_opts o = *TO_GGUF;
            o.w.threads = f16.w.threads = threads[t];
            o.w.memory_bytes = f16.w.memory_bytes = memory;
            o.w.force = f16.w.force = true;
            st = convert_to(hf, many, &o, NULL, &err);
            if (st == LB_OK) {
                CHECK(same_file(one, many));
                st = convert_to(one, again, &f16, NULL, &err);
            }
            if (st == LB_OK) {
                CHECK(same_folder(folder, again));
                n_fit++;
            }
        }
        CHECK(st == LB_E_LIMIT);
        CHECK(n_fit >= 2); /* the budget counts what this process holds already */
    }
}

/* ---- provenance ---- */

/* The digest of the first source, as a GGUF of ours states it. */
static lb_str digest_in(const lb_source *s) {
    lb_str d = LB_STR_NONE;
    const lb_gguf_kv *kv = s->gguf ? lb_meta_find(s->gguf, "lbrx.source.0.digest") : NULL;
    if (kv)
        (void)lb_kv_as_str(kv, &d);
    return d;
}

static bool digest(const char *in, bool to_gguf, char out[33]) {
    lb_err err = {0};
    lb_source *s = NULL;
    lb_arena arena = {0};
    lb_json *root = NULL;
    const char *path = fresh(to_gguf ? "digest.gguf" : "digest");
    bool ok = convert_to(in, path, to_gguf ? TO_GGUF : TO(HF), NULL, &err) == LB_OK;
    memset(out, 0, 33);
    if (!ok)
        printf("    %s\n", err.msg);
    if (ok && to_gguf) {
        ok = lb_open(&s, path, &err) == LB_OK && digest_in(s).len == 32;
        if (ok)
            memcpy(out, digest_in(s).ptr, 32);
        lb_source_close(&s);
    } else if (ok) {
        size_t n, at;
        u8 *p = st_slurp(st_path(path, "lbrx.json"), &n);
        lb_str text = {(const char *)p, n}, key = LB_STR("\"digest\": \"");
        ok = lb_json_parse(text, "lbrx.json", &arena, &root, &err) == LB_OK &&
             lb_str_find(text, key, &at) && at + key.len + 32 <= n;
        if (ok)
            memcpy(out, p + at + key.len, 32);
        lb_free(p);
        lb_arena_deinit(&arena);
    }
    return ok;
}

LB_TEST(digests_do_not_see_the_shards) {
    lb_err err = {0};
    char a[33], b[33], c[33], d[33], other[33];
    fm_spec spec = fm_tiny(FM_QWEN3);
    const char *whole = folder_at("whole"), *cut = folder_at("cut"), *seed = folder_at("seed");
    CHECK_OK(model(whole, &spec, &err));
    CHECK(digest(whole, false, a));
    CHECK(digest(whole, true, b));
    spec.max_file_bytes = 100000;
    CHECK_OK(model(cut, &spec, &err));
    CHECK(digest(cut, false, c));
    CHECK(digest(cut, true, d));
    spec.seed++;
    CHECK_OK(model(seed, &spec, &err));
    CHECK(digest(seed, false, other));
    CHECK_STR(lb_str_c(a), b);
    CHECK_STR(lb_str_c(a), c);
    CHECK_STR(lb_str_c(a), d);
    CHECK(strcmp(a, other) != 0);
}

/* Names and bytes agree between a GGUF, its parts and an HF folder's copies as MLX. */
LB_TEST(digests_do_not_see_the_container) {
    lb_err err = {0};
    char a[33], b[33], c[33], d[33];
    fm_spec spec = fm_tiny(FM_LLAMA);
    const char *hf = folder_at("hf"), *mlx = fresh("mlx"), *g = fresh("g.gguf");
    CHECK_OK(model(hf, &spec, &err));
    CHECK_OK(convert_to(hf, mlx, TO(MLX), NULL, &err));
    CHECK(digest(hf, false, a));
    CHECK(digest(mlx, false, b));
    CHECK_STR(lb_str_c(a), b);
    CHECK_OK(convert_to(hf, g, TO_GGUF, NULL, &err));
    lb_convert_opts cut = *TO(GGUF);
    cut.w.max_shard_bytes = 500000;
    cut.verb = "split";
    CHECK_OK(convert_to(g, st_path(lb_test_dir(), "p.gguf"), &cut, NULL, &err));
    CHECK(digest(g, true, c));
    lb_arena arena = {0};
    lb_str *names = NULL;
    u64 n = 0;
    bool found = false;
    CHECK_OK(lb_os_list(lb_test_dir(), &arena, &names, &n, &err));
    for (u64 i = 0; i < n && !found; i++)
        if (lb_str_starts(names[i], LB_STR("p-00001-of-")))
            found = digest(lb_os_join(&arena, lb_test_dir(), names[i]), true, d);
    lb_arena_deinit(&arena);
    CHECK(found);
    CHECK_STR(lb_str_c(c), d);
}

LB_TEST(hashes_of_the_tensors) {
    lb_err err = {0};
    lb_arena arena = {0};
    lb_source *s = NULL;
    lb_json *root = NULL;
    fm_spec spec = fm_tiny(FM_QWEN2);
    const char *hf = folder_at("hf"), *out = fresh("out");
    spec.dtype = LB_F16;
    CHECK_OK(model(hf, &spec, &err));
    lb_convert_opts o = {.cast = true, .dtype = LB_BF16, .w = {.max_shard_bytes = 300000}};
    CHECK_OK(convert_to(hf, out, &o, NULL, &err));
    size_t n;
    u8 *text = st_slurp(st_path(out, "lbrx.json"), &n);
    CHECK_OK(lb_json_parse((lb_str){(const char *)text, n}, "lbrx.json", &arena, &root, &err));
    CHECK_OK(lb_open(&s, out, &err));
    const lb_json *tensors = lb_json_get(root, "tensors");
    CHECK(tensors != NULL);
    CHECK_U64(tensors->n, s->n_tensors);
    for (const lb_json *v = tensors->first; v; v = v->next) {
        char hex[33];
        const lb_tensor *t = lb_source_tensor(s, v->key);
        CHECK(t != NULL);
        u8 *p = bytes_of(s, t);
        CHECK(p != NULL);
        lb_hash_hex(lb_xxh128(p, t->size_bytes), hex);
        lb_free(p);
        CHECK_STR(v->text, hex);
    }
    lb_source_close(&s);
    lb_arena_deinit(&arena);
    lb_free(text);
}

/* ---- what is refused, and what is not ---- */

LB_TEST(unknown_family) {
    lb_err err = {0};
    const char *odd = folder_at("odd"), *mlx = fresh("mlx"), *hf = fresh("hf2");
    st_file(odd, "model.safetensors", "pt", "a.weight F32 4 4;b.weight BF16 8 2;c I64 3");
    st_text(odd, "config.json",
            "{\"architectures\": [\"OddForCausalLM\"], \"model_type\": \"odd\"}");
    CHECK_OK(convert_to(odd, mlx, TO(MLX), NULL, &err));
    CHECK(same_tensors(odd, mlx));
    CHECK_OK(convert_to(mlx, hf, TO(HF), NULL, &err));
    CHECK(same_tensors(odd, hf));
    const char *cast = fresh("cast");
    lb_convert_opts o = {.cast = true, .dtype = LB_F16};
    CHECK_OK(convert_to(odd, cast, &o, NULL, &err));
    const char *gguf = fresh("x.gguf");
    CHECK(convert_to(odd, gguf, TO(GGUF), NULL, &err) == LB_E_UNSUPPORTED);
    CHECK(strstr(err.msg, "dd") != NULL);
    CHECK(!lb_os_exists(gguf));
}

LB_TEST(unknown_tensor_of_a_known_family) {
    lb_err err = {0};
    fm_spec spec = fm_tiny(FM_LLAMA);
    const char *hf = folder_at("hf"), *gguf = fresh("x.gguf"), *copy = fresh("copy");
    CHECK_OK(model(hf, &spec, &err));
    st_file(hf, "model-extra.safetensors", "pt", "model.layers.0.mystery.weight BF16 4 4");
    /* an index that lists both files */
    lb_source *s = NULL;
    lb_buf index = {0};
    CHECK_OK(lb_open(&s, st_path(hf, "model.safetensors"), &err));
    lb_buf_put_c(&index, "{\"metadata\": {}, \"weight_map\": {");
    for (u64 i = 0; i < s->n_tensors; i++)
        lb_buf_printf(&index, "\"%.*s\": \"model.safetensors\", ", LB_FMT(s->tensors[i].name));
    lb_buf_put_c(&index, "\"model.layers.0.mystery.weight\": \"model-extra.safetensors\"}}");
    st_write(hf, "model.safetensors.index.json", index.ptr, index.len);
    lb_source_close(&s);
    lb_buf_deinit(&index);
    CHECK(convert_to(hf, gguf, TO_GGUF, NULL, &err) == LB_E_UNSUPPORTED);
    CHECK(strstr(err.msg, "model.layers.0.mystery.weight") != NULL);
    CHECK(!lb_os_exists(gguf));
    CHECK_OK(convert_to(hf, copy, TO(HF), NULL, &err));
    CHECK(same_tensors(hf, copy));
}

/* The pooling of an embedding model stands in a folder of its own. */
LB_TEST(pooling_module) {
    static const struct {
        const char *path, *pooling;
        lb_status st;
    } cases[] = {{"1_Pooling", "{\"pooling_mode_lasttoken\": true}", LB_OK},
                 {"1_Pooling", "{\"pooling_mode_max_tokens\": true}", LB_E_UNSUPPORTED},
                 {"1_Pooling", "{", LB_E_FORMAT},
                 {"1_Pooling", NULL, LB_E_NOT_FOUND},
                 {"../1_Pooling", NULL, LB_E_FORMAT},
                 {"a/b", NULL, LB_E_FORMAT}};
    for (size_t i = 0; i < LB_LEN(cases); i++) {
        lb_err err = {0};
        lb_source *s = NULL;
        fm_spec spec = fm_tiny(FM_QWEN3);
        const char *dir = folder_at("embedding"), *out = fresh("embedding.gguf");
        char text[256];
        u64 type = 0;
        CHECK_OK(model(dir, &spec, &err));
        (void)snprintf(text, sizeof text,
                       "[{\"type\": \"x.Transformer\", \"path\": \"\"}, {\"type\": \"x.Pooling\","
                       "\"path\": \"%s\"}, {\"type\": \"x.Dense\", \"path\": \"2_Dense\"}]",
                       cases[i].path);
        st_text(dir, "modules.json", text);
        if (cases[i].pooling) {
            CHECK_OK(lb_os_mkdir(st_path(dir, cases[i].path), false, &err));
            st_text(st_path(dir, cases[i].path), "config.json", cases[i].pooling);
        }
        result r;
        CHECK_U64(convert_to(dir, out, TO_GGUF, &r, &err), cases[i].st);
        CHECK(cases[i].st != LB_OK || strstr((const char *)r.remarks.ptr, "left out: 2_Dense"));
        drop(&r);
        if (cases[i].st != LB_OK)
            continue;
        CHECK_OK(lb_open(&s, out, &err));
        CHECK(lb_kv_as_u64(lb_meta_find(s->gguf, "qwen3.pooling_type"), &type) && type == 3);
        lb_source_close(&s);
    }
}

/* The parts of an embedding model behind the language model go with it from folder to folder, and a
 * folder that has them is replaced like any other. */
LB_TEST(modules_go_along) {
    static const char *const parts[] = {"1_Pooling/config.json", "2_Dense/config.json",
                                        "2_Dense/model.safetensors"};
    static const lb_to to[] = {LB_TO_HF, LB_TO_MLX, LB_TO_HF};
    lb_err err = {0};
    fm_spec spec = fm_tiny(FM_QWEN3);
    const char *from = folder_at("embedding");
    CHECK_OK(model(from, &spec, &err));
    st_text(
        from, "modules.json",
        "[{\"type\": \"x.Transformer\", \"path\": \"\"}, {\"type\": \"x.Pooling\", \"path\": "
        "\"1_Pooling\"}, {\"type\": \"x.Dense\", \"path\": \"2_Dense\"}, {\"path\": \"2_Dense\"}, "
        "{\"path\": \"3_Gone\"}, {\"path\": \"../out\"}]");
    CHECK_OK(lb_os_mkdir(st_path(from, "1_Pooling"), false, &err));
    CHECK_OK(lb_os_mkdir(st_path(from, "2_Dense"), false, &err));
    CHECK_OK(lb_os_mkdir(st_path(from, "other"), false, &err));
    for (u32 i = 0; i < LB_LEN(parts); i++)
        st_text(from, parts[i], parts[i]);
    st_text(from, "other/x", "x");
    for (u32 i = 0; i < LB_LEN(to); i++) {
        lb_convert_opts o = {.w = {.to = to[i], .sha256 = true}};
        const char *out = fresh("out");
        char copy[600];
        result r;
        CHECK_OK(convert_to(from, out, &o, &r, &err));
        CHECK(i || strstr((const char *)r.remarks.ptr, "1 folder inside was not looked into"));
        drop(&r);
        CHECK(!lb_os_exists(st_path(out, "other")));
        for (u32 k = 0; k < LB_LEN(parts); k++) {
            CHECK(same_file(st_path(from, parts[k]), st_path(out, parts[k])));
            CHECK(holds(st_path(out, "SHA256SUMS"), parts[k]));
        }
        o.w.force = true;
        CHECK_OK(convert_to(from, out, &o, NULL, &err));
        /* but for what is not listed */
        st_text(out, "2_Dense/mine", "x");
        CHECK_U64(convert_to(from, out, &o, NULL, &err), LB_E_USAGE);
        CHECK(strstr(err.msg, "holds '2_Dense/mine'"));
        CHECK_OK(lb_os_unlink(st_path(out, "2_Dense/mine"), &err));
        (void)snprintf(copy, sizeof copy, "%s-%u", out, i);
        CHECK_OK(lb_os_rename(out, copy, &err));
        from = st_path(copy, ".");
    }
}

LB_TEST(metadata_edits) {
    static const char *const set[] = {"general.name=str:A = b: c", "x.flag=bool:true",
                                      "x.small=i8:-128", "x.big=u64:18446744073709551615",
                                      "x.real=f32:0.1"};
    static const char *const unset[] = {"tokenizer.ggml.pre"};
    lb_err err = {0};
    lb_arena arena = {0};
    const char *dir = folder_at("g"), *g = NULL, *out = fresh("edited.gguf");
    fm_spec spec = fm_tiny(FM_LLAMA);
    lb_source *s = NULL;
    lb_str text;
    st_text(dir, "t.jinja", "{{ messages }}\n");
    CHECK_OK(fm_write_gguf(dir, "m", &spec, &arena, &g, &err));
    lb_convert_opts o = {.set = set,
                         .n_set = LB_LEN(set),
                         .unset = unset,
                         .n_unset = 1,
                         .chat_template = st_path(dir, "t.jinja")};
    lb_status st = convert_to(g, out, &o, NULL, &err);
    if (st != LB_OK && strstr(err.msg, "--unset")) { /* the made-up vocabulary has no such key */
        o.n_unset = 0;
        st = convert_to(g, out, &o, NULL, &err);
    }
    CHECK_OK(st);
    CHECK_OK(lb_open(&s, out, &err));
    CHECK(lb_kv_as_str(lb_meta_find(s->gguf, "general.name"), &text));
    CHECK_STR(text, "A = b: c");
    CHECK(lb_kv_as_str(lb_meta_find(s->gguf, "tokenizer.chat_template"), &text));
    CHECK_STR(text, "{{ messages }}\n");
    const lb_gguf_kv *kv = lb_meta_find(s->gguf, "x.big");
    CHECK(kv && kv->type == LB_GGUF_U64 && kv->v.u == UINT64_MAX);
    kv = lb_meta_find(s->gguf, "x.small");
    CHECK(kv && kv->type == LB_GGUF_I8 && kv->v.i == -128);
    kv = lb_meta_find(s->gguf, "x.flag");
    CHECK(kv && kv->type == LB_GGUF_BOOL && kv->v.u == 1);
    kv = lb_meta_find(s->gguf, "x.real");
    CHECK(kv && kv->type == LB_GGUF_F32 && (float)kv->v.f == 0.1f);
    lb_source_close(&s);
    CHECK(same_tensors(g, out));
    /* a folder gets the template as its own file */
    const char *folder = fresh("folder");
    lb_convert_opts t = {.w = {.to = LB_TO_HF}, .chat_template = o.chat_template};
    CHECK_OK(convert_to(g, folder, &t, NULL, &err));
    CHECK(same_file(o.chat_template, st_path(folder, "chat_template.jinja")));
    lb_arena_deinit(&arena);
}

/* Every type of element; what is no such array is refused with its place. */
LB_TEST(metadata_arrays) {
    static const char *const set[] = {"x.str=str[]:[\"a\", \"\\u00e9\"]",
                                      "x.bool=bool[]:[true, false]",
                                      "x.f32=f32[]:[1, -2.5e3, Infinity]",
                                      "x.none=i8[]:[]",
                                      "x.u64=u64[]:[18446744073709551615]",
                                      "x.i16=i16[]:[-32768, 7]",
                                      "x.f64=f64[]:[1e300]"};
    static const struct {
        const char *set, *why;
    } bad[] = {{"x=u8[]:[1, 256]", "element 1 of 'x' is not a value of type u8"},
               {"x=u8[]:[1.5]", "element 0 of 'x'"},
               {"x=str[]:[1]", "element 0 of 'x' is not a value of type str"},
               {"x=bool[]:[1]", "element 0 of 'x'"},
               {"x=i32[]:[[1]]", "element 0 of 'x'"},
               {"x=u8[]:1", "is no array: write u8[]:[...]"},
               {"x=u8[]:[1", "is no array"},
               {"x=[]:[1]", "'[]' is not one of"},
               {"x=u9[]:[1]", "'u9[]' is not one of"},
               {"general.architecture=u32:1", "is a str in every GGUF"},
               {"general.architecture=str[]:[\"llama\"]", "is a str in every GGUF"},
               {"GGUF.version=u32:3", "a field of the header"},
               {"lbrx.operation=str:x", "lbrx's own record"},
               {"split.count=u16:2", "see --max-shard-size"}};
    lb_err err = {0};
    lb_arena arena = {0};
    const char *dir = folder_at("g"), *g = NULL, *out = fresh("edited.gguf");
    fm_spec spec = fm_tiny(FM_LLAMA);
    lb_source *s = NULL;
    lb_str text;
    u64 u;
    i64 i;
    double f;
    CHECK_OK(fm_write_gguf(dir, "m", &spec, &arena, &g, &err));
    CHECK_OK(convert_to(g, out, &(lb_convert_opts){.set = set, .n_set = LB_LEN(set)}, NULL, &err));
    CHECK_OK(lb_open(&s, out, &err));
    const lb_gguf_meta *m = s->gguf;
    CHECK(lb_kv_elem_str(lb_meta_find(m, "x.str"), 1, &text) && lb_str_eq_c(text, "\xc3\xa9"));
    CHECK(lb_kv_elem_u64(lb_meta_find(m, "x.bool"), 0, &u) && u == 1);
    CHECK(lb_kv_elem_f64(lb_meta_find(m, "x.f32"), 1, &f) && f == -2500);
    CHECK(lb_kv_elem_u64(lb_meta_find(m, "x.u64"), 0, &u) && u == UINT64_MAX);
    CHECK(lb_kv_elem_i64(lb_meta_find(m, "x.i16"), 0, &i) && i == -32768);
    CHECK(lb_kv_elem_f64(lb_meta_find(m, "x.f64"), 0, &f) && f == 1e300);
    const lb_gguf_kv *none = lb_meta_find(m, "x.none");
    CHECK(none && none->type == LB_GGUF_ARRAY && none->elem == LB_GGUF_I8 && none->n == 0);
    lb_source_close(&s);
    for (size_t k = 0; k < LB_LEN(bad); k++) {
        lb_convert_opts o = {.set = &bad[k].set, .n_set = 1};
        CHECK_U64(convert_to(g, fresh("bad.gguf"), &o, NULL, &err), LB_E_USAGE);
        if (!strstr(err.msg, bad[k].why))
            lb_test_fail(__FILE__, __LINE__, "%s: %s", bad[k].set, err.msg);
    }
    static const char *const unset[] = {"general.architecture"};
    CHECK_U64(convert_to(g, fresh("bad.gguf"), &(lb_convert_opts){.unset = unset, .n_unset = 1},
                         NULL, &err),
              LB_E_USAGE);
    lb_arena_deinit(&arena);
}

/* Keys that nobody may read as they are now: said, not refused. */
LB_TEST(metadata_that_breaks) {
    static const char *const set[] = {"llama.context_length=f32:1.5"};
    static const char *const unset[] = {"llama.block_count"};
    lb_err err = {0};
    lb_arena arena = {0};
    const char *dir = folder_at("g"), *g = NULL;
    fm_spec spec = fm_tiny(FM_LLAMA);
    result r;
    CHECK_OK(fm_write_gguf(dir, "m", &spec, &arena, &g, &err));
    lb_convert_opts o = {.set = set, .n_set = 1, .unset = unset, .n_unset = 1};
    CHECK_OK(convert_to(g, fresh("edited.gguf"), &o, &r, &err));
    CHECK(strstr((const char *)r.remarks.ptr, "'llama.context_length' was u32 and is f32 now"));
    CHECK(strstr((const char *)r.remarks.ptr, "does not read the model any more"));
    CHECK(strstr((const char *)r.remarks.ptr, "llama.block_count"));
    drop(&r);
    lb_arena_deinit(&arena);
}

/* A GGUF of ours keeps config.json and the tokenizer's files: what was edited since, by whatever
 * tool, is in the folder that comes back, and what was not is there as it was. */
LB_TEST(edits_come_back) {
    static const char *const set[] = {"llama.context_length=u32:99"};
    lb_err err = {0};
    fm_spec spec = fm_tiny(FM_LLAMA);
    const char *hf = folder_at("hf"), *g = fresh("m.gguf"), *edited = fresh("edited.gguf");
    const char *back = fresh("back");
    result r;
    CHECK_OK(model(hf, &spec, &err));
    st_text(hf, "tokenizer_config.json", "{\"own\": 1e-05, \"chat_template\": \"A\"}");
    st_text(hf, "t.jinja", "B{{ x }}");
    CHECK_OK(convert_to(hf, g, TO_GGUF, NULL, &err));
    lb_convert_opts o = {.set = set, .n_set = 1};
    CHECK_OK(convert_to(g, edited, &o, NULL, &err));
    CHECK_OK(convert_to(edited, back, TO(HF), &r, &err));
    CHECK(strstr((const char *)r.remarks.ptr, "keys of the GGUF were changed since lbrx wrote it"));
    drop(&r);
    CHECK(holds(st_path(back, "config.json"), "\"max_position_embeddings\": 99"));
    CHECK(same_file(st_path(hf, "tokenizer_config.json"), st_path(back, "tokenizer_config.json")));
    /* the template alone */
    edited = fresh("template.gguf");
    back = fresh("back");
    o = (lb_convert_opts){.chat_template = st_path(hf, "t.jinja")};
    CHECK_OK(convert_to(g, edited, &o, NULL, &err));
    CHECK_OK(convert_to(edited, back, TO(HF), NULL, &err));
    CHECK(same_file(st_path(hf, "config.json"), st_path(back, "config.json")));
    CHECK(same_file(st_path(hf, "tokenizer.model"), st_path(back, "tokenizer.model")));
    CHECK(same_file(st_path(hf, "t.jinja"), st_path(back, "chat_template.jinja")));
    CHECK(holds(st_path(back, "tokenizer_config.json"), "\"own\": 1e-05"));
    CHECK(!holds(st_path(back, "tokenizer_config.json"), "chat_template"));
}

/* The reference converter reads the template of tokenizer_config.json first, transformers the file
 * beside it: there must not be two. */
LB_TEST(one_chat_template) {
    static const lb_to to[] = {LB_TO_HF, LB_TO_MLX};
    lb_err err = {0};
    fm_spec spec = fm_tiny(FM_LLAMA);
    const char *hf = folder_at("hf");
    CHECK_OK(model(hf, &spec, &err));
    st_text(hf, "t.jinja", "B{{ x }}");
    st_text(hf, "chat_template.json", "{\"chat_template\": \"A\"}");
    for (u32 i = 0; i < 2; i++) {
        lb_convert_opts o = {.chat_template = st_path(hf, "t.jinja"), .w = {.to = to[i]}};
        const char *out = fresh("one"), *list = fresh("list");
        st_text(hf, "tokenizer_config.json", "{\"own\": 1e-05, \"chat_template\": \"A\"}");
        CHECK_OK(convert_to(hf, out, &o, NULL, &err));
        CHECK(same_file(st_path(hf, "t.jinja"), st_path(out, "chat_template.jinja")));
        CHECK(holds(st_path(out, "tokenizer_config.json"), "\"own\": 1e-05"));
        CHECK(!holds(st_path(out, "tokenizer_config.json"), "chat_template"));
        CHECK(!lb_os_exists(st_path(out, "chat_template.json")));
        /* of several, the default */
        st_text(hf, "tokenizer_config.json",
                "{\"chat_template\": [{\"name\": \"default\", \"template\": \"A\"}, "
                "{\"name\": \"tool_use\", \"template\": \"T\"}]}");
        CHECK_OK(convert_to(hf, list, &o, NULL, &err));
        CHECK(holds(st_path(list, "tokenizer_config.json"), "\"B{{ x }}\""));
        CHECK(holds(st_path(list, "tokenizer_config.json"), "\"tool_use\""));
        CHECK(!holds(st_path(list, "tokenizer_config.json"), "\"A\""));
        CHECK(!lb_os_exists(st_path(list, "chat_template.jinja")));
    }
}

LB_TEST(lossless_refuses_rounding) {
    static const float odd[4] = {1.0f, 1.0009765625f, 3.0f, 0.1f};
    lb_err err = {0};
    const char *dir = folder_at("odd");
    static const char head[] = "{\"a.weight\":{\"dtype\":\"F32\",\"shape\":[2,2],"
                               "\"data_offsets\":[0,16]}}     ";
    u8 file[8 + sizeof head - 1 + 16];
    memset(file, 0, sizeof file);
    file[0] = sizeof head - 1;
    memcpy(file + 8, head, sizeof head - 1);
    memcpy(file + 8 + sizeof head - 1, odd, sizeof odd);
    st_write(dir, "model.safetensors", file, sizeof file);
    st_text(dir, "config.json", "{\"architectures\": [\"OddForCausalLM\"]}");
    lb_convert_opts o = {.cast = true, .dtype = LB_BF16};
    result r;
    const char *out = fresh("out");
    CHECK_OK(convert_to(dir, out, &o, &r, &err));
    CHECK_U64(r.report.n_rounded, 2);
    CHECK_U64(r.report.n_rounded_tensors, 1);
    CHECK_U64(r.report.n_overflowed, 0);
    drop(&r);
    out = fresh("out2");
    o.w.lossless = true;
    CHECK(convert_to(dir, out, &o, NULL, &err) == LB_E_UNSUPPORTED);
    CHECK(strstr(err.msg, "a.weight") != NULL);
    CHECK(!lb_os_exists(out));
    o.dtype = LB_F32;
    out = fresh("out3");
    CHECK_OK(convert_to(dir, out, &o, NULL, &err));
}

/* Norms that a sum with 1 in f32 cannot hold: their bytes travel beside it, and only if asked. */
LB_TEST(lossless_keeps_small_norms) {
    lb_err err = {0};
    lb_source *s = NULL;
    fm_spec spec = fm_tiny(FM_GEMMA3);
    const char *hf = folder_at("hf"), *gguf = fresh("m.gguf"), *back = fresh("back");
    spec.dtype = LB_F32;
    spec.tied = true;
    CHECK_OK(model(hf, &spec, &err));
    CHECK_OK(lb_open(&s, hf, &err));
    const lb_tensor *t = lb_source_tensor(s, LB_STR("model.norm.weight"));
    CHECK(t != NULL && t->dtype == LB_F32);
    float *v = lb_alloc(t->size_bytes);
    CHECK(v != NULL);
    for (u64 i = 0; i < t->n_elems; i++)
        v[i] = (float)(i + 1) * 1.1e-9f;
    int fd = -1;
    const char *path = s->files[t->file].path;
    CHECK_OK(lb_os_open_write(path, false, &fd, &err));
    CHECK_OK(lb_os_pwrite(fd, path, v, t->size_bytes, t->off_bytes, &err));
    lb_os_close(&fd);
    lb_free(v);
    lb_source_close(&s);
    CHECK_OK(convert_to(hf, gguf, TO_GGUF, NULL, &err));
    CHECK_OK(convert_to(gguf, back, TO(HF), NULL, &err));
    CHECK(!same_tensors(hf, back));
    lb_convert_opts o = *TO_GGUF;
    o.w.lossless = true;
    gguf = fresh("exact.gguf");
    back = fresh("exact");
    CHECK_OK(convert_to(hf, gguf, &o, NULL, &err));
    CHECK_OK(convert_to(gguf, back, TO(HF), NULL, &err));
    CHECK(same_tensors(hf, back));
}

LB_TEST(dry_run_and_none_write_nothing) {
    lb_err err = {0};
    lb_arena arena = {0};
    lb_str *names;
    u64 before = 0, after = 0;
    fm_spec spec = fm_tiny(FM_QWEN3);
    const char *hf = folder_at("hf"), *out = fresh("nothing");
    result r;
    CHECK_OK(model(hf, &spec, &err));
    CHECK_OK(lb_os_list(lb_test_dir(), &arena, &names, &before, &err));
    lb_convert_opts o = *TO(MLX);
    o.w.dry_run = true;
    CHECK_OK(convert_to(hf, out, &o, &r, &err));
    CHECK(r.report.dry_run);
    size_t at;
    CHECK(lb_str_find(lb_buf_str(&r.plan), LB_STR("model.layers.1.mlp.up_proj.weight"), &at));
    drop(&r);
    CHECK_OK(convert_to(hf, NULL, TO(NONE), &r, &err));
    CHECK(r.report.bytes_read > 2000000);
    CHECK_U64(r.report.pool.outstanding, 0);
    drop(&r);
    CHECK_OK(lb_os_list(lb_test_dir(), &arena, &names, &after, &err));
    CHECK_U64(after, before);
    lb_arena_deinit(&arena);
}

LB_TEST_MAIN("slow")
