/* SPDX-License-Identifier: Apache-2.0 */
/* test_families.c: tiny models of every family (tests/golden/family, made by tests/families)
 * through every conversion, against what the reference converter and mlx-lm made of the same bytes:
 *   HF -> GGUF        keys, types, values, order; tensors: names, order, types, shapes, bytes
 *   HF -> MLX         tensors: names, types, shapes, bytes; config.json
 *   GGUF -> HF, MLX -> HF, MLX -> GGUF, GGUF -> MLX        the same bytes again */
#include "arch/arch.h"
#include "arch_util.h"
#include "base/cpu.h"
#include "base/hash.h"
#include "base/os.h"
#include "ops/convert.h"
#include "ops/diff.h"
#include "ops/open.h"
#include "st_files.h"
#include "test.h"

#include <math.h>

static lb_arena arena;
static lb_err err;
static char what[256]; /* family, label and direction, for messages */
static u8 mtp;         /* lb_keep */
static bool lossless;
static bool has_more; /* of a comparison: the first model may have some that the other lacks */

/* ---- the folder: kit.py's fill ---- */

static u32 mix(u32 x) {
    x ^= x >> 16;
    x *= 0x85ebca6b;
    x ^= x >> 13;
    x *= 0xc2b2ae35;
    return x ^ x >> 16;
}

static void fill_one(lb_dtype t, bool scales, bool powers, u32 x, u8 *out) {
    float v = ldexpf((float)(128 + (x & 127)), -11 - (int)(x >> 8 & 3)) * (x & 128 ? -1.0f : 1.0f);
    u32 bits = lb_f32_bits(v) & (powers ? 0x7f800000u : UINT32_MAX);
    switch (t) {
    case LB_F32:
        lb_store_u32(out, bits);
        break;
    case LB_BF16:
        lb_store_u16(out, (u16)(bits >> 16));
        break;
    case LB_F16: /* normal, 7 bits behind the point */
        lb_store_u16(out, (u16)((bits >> 16 & 0x8000) | (((bits >> 23 & 255) - 112) << 10) |
                                (bits >> 13 & 1023)));
        break;
    case LB_F8_E4M3:
        *out = (u8)((x & 127) == 127 ? 126 : x & 255);
        break;
    case LB_U8:
        *out = (u8)(scales ? 116 + (x & 7) : x & 255);
        break;
    default: /* integers; BOOL */
        *out = (u8)(t == LB_BOOL ? x & 1 : x & 127);
    }
}

static void fill(lb_str name, lb_dtype t, u64 n, u8 *out) {
    u32 h = 2166136261u;
    u64 step;
    if (!lb_dtype_bytes(t, 1, &step))
        return;
    for (size_t i = 0; i < name.len; i++)
        h = (h ^ (u8)name.ptr[i]) * 16777619u;
    memset(out, 0, n * step);
    bool scales = lb_str_ends(name, LB_STR("_scales"));
    bool powers = lb_str_ends(name, LB_STR("_scale_inv"));
    for (u64 i = 0; i < n; i++)
        fill_one(t, scales, powers, mix(h + (u32)i * 0x9e3779b9u), out + i * step);
}

static bool read_shape(const lb_json *v, lb_shape *shape) {
    *shape = (lb_shape){0};
    for (const lb_json *d = v->first; d; d = d->next)
        if (shape->rank == LB_RANK_MAX || !lb_json_as_u64(d, &shape->dim[shape->rank++]))
            return false;
    return true;
}

/* A safetensors file of [name, DTYPE, shape]s. */
static void write_shard(const char *dir, lb_str file, const lb_json *tensors) {
    char name[128], shape_text[LB_SHAPE_TEXT];
    lb_buf head = {0}, data = {0};
    u64 at = 0;
    lb_buf_put_c(&head, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (const lb_json *t = tensors->first; t; t = t->next) {
        lb_shape shape;
        lb_dtype type;
        u64 n = 0, size = 0;
        if (!read_shape(t->last, &shape) || !lb_shape_elems(&shape, &n) ||
            !lb_dtype_find_safetensors(t->first->next->text, &type) ||
            !lb_dtype_bytes(type, n, &size))
            lb_test_fail(__FILE__, __LINE__, "%s: tensor %.*s of the golden file", what,
                         LB_FMT(t->first->text));
        lb_buf_printf(
            &head, ",\"%.*s\":{\"dtype\":\"%.*s\",\"shape\":%s,\"data_offsets\":[%llu,%llu]}",
            LB_FMT(t->first->text), LB_FMT(t->first->next->text), lb_shape_text(&shape, shape_text),
            (unsigned long long)at, (unsigned long long)(at + size));
        u8 *bytes = lb_alloc(size + 1);
        if (bytes)
            fill(t->first->text, type, n, bytes);
        lb_buf_put(&data, bytes, size);
        lb_free(bytes);
        at += size;
    }
    lb_buf_put_c(&head, "}");
    lb_buf whole = {0};
    u8 len[8];
    lb_store_u64(len, head.len);
    lb_buf_put(&whole, len, 8);
    lb_buf_put(&whole, head.ptr, head.len);
    lb_buf_put(&whole, data.ptr, data.len);
    snprintf(name, sizeof name, "%.*s", LB_FMT(file));
    st_write(dir, name, whole.ptr, whole.len);
    lb_buf_deinit(&head);
    lb_buf_deinit(&data);
    lb_buf_deinit(&whole);
}

/* The index that transformers writes for several shards. */
static void write_index(const char *dir, const lb_json *shards) {
    lb_buf b = {0};
    lb_buf_put_c(&b, "{\"metadata\":{},\"weight_map\":{");
    for (const lb_json *f = shards->first; f; f = f->next)
        for (const lb_json *t = f->first; t; t = t->next)
            lb_buf_printf(&b, "%s\"%.*s\":\"%.*s\"", b.ptr[b.len - 1] == '{' ? "" : ",",
                          LB_FMT(t->first->text), LB_FMT(f->key));
    lb_buf_put_c(&b, "}}");
    st_write(dir, "model.safetensors.index.json", b.ptr, b.len);
    lb_buf_deinit(&b);
}

static void copy_golden(const char *from, const char *dir, const char *to) {
    size_t n;
    char path[128];
    snprintf(path, sizeof path, "family/%s", from);
    u8 *bytes = st_slurp(lb_test_golden(path), &n);
    st_write(dir, to, bytes, n);
    lb_free(bytes);
}

static const char *build(const lb_json *c) {
    char label[128];
    snprintf(label, sizeof label, "%.*s", LB_FMT(arch_str(c, "label")));
    const char *dir = st_dir(label);
    const lb_json *shards = lb_json_get(c, "shards");
    for (const lb_json *f = shards->first; f; f = f->next)
        write_shard(dir, f->key, f);
    if (shards->n > 1)
        write_index(dir, shards);
    lb_str config = arch_str(c, "config");
    st_write(dir, "config.json", config.ptr, config.len);
    if (lb_str_eq_c(arch_str(c, "tokenizer"), "bpe")) {
        copy_golden("tokenizer.json", dir, "tokenizer.json");
        copy_golden("tokenizer_config.json", dir, "tokenizer_config.json");
    } else {
        copy_golden("tokenizer.model", dir, "tokenizer.model");
        copy_golden("tokenizer_config_spm.json", dir, "tokenizer_config.json");
    }
    for (const lb_json *f = lb_json_get(c, "files")->first; f; f = f->next) {
        snprintf(label, sizeof label, "%.*s", LB_FMT(f->key));
        st_write(dir, label, f->text.ptr, f->text.len);
    }
    return dir;
}

/* ---- conversions ---- */

static lb_status convert(const char *in, const char *out, lb_to to, const char *dtype,
                         lb_buf *remarks) {
    static const char *const pre[] = {"tokenizer.ggml.pre=str:gpt-2"};
    bool spm = false;
    lb_kernels k;
    lb_source *s = NULL;
    lb_buf plan = {0};
    lb_out_report report = {0};
    lb_kernels_init(&k, lb_cpu_isa());
    lb_convert_opts o = {.verb = "convert",
                         .keep = {[LB_EXTRA_MTP] = mtp},
                         .w = {.kernels = &k,
                               .output = out,
                               .to = to,
                               .lossless = lossless,
                               .no_sync = true,
                               .threads = 2,
                               .memory_bytes = 64 * LB_MIB,
                               .no_provenance = true},
                         .cast = dtype && lb_dtype_find(lb_str_c(dtype), &o.dtype)};
    lb_status st = lb_open(&s, in, &err);
    if (st == LB_OK && to == LB_TO_GGUF) {
        spm = lb_source_side(s, LB_STR("tokenizer.model")) != NULL;
        o.set = pre;
        o.n_set = spm ? 0 : 1;
    }
    if (st == LB_OK)
        st = lb_convert(s, &o, &plan, remarks, &report, &err);
    lb_source_close(&s);
    lb_buf_deinit(&plan);
    return st;
}

/* Path under the test's folder at which nothing stands. */
static const char *fresh(const char *name) {
    static char ring[32][512];
    static u32 at;
    char *p = ring[at++ % LB_LEN(ring)];
    snprintf(p, sizeof ring[0], "%s/%s", lb_test_dir(), name);
    (void)lb_os_remove_tree(p, &err);
    return p;
}

/* ---- comparing ---- */

static bool digest_is(const lb_source *s, const lb_tensor *t, lb_str want) {
    char hex[65];
    int fd = -1;
    lb_sha256 h;
    u8 *p = lb_alloc(t->size_bytes + 1);
    const char *path = s->files[t->file].path;
    bool ok = p && lb_os_open_read(path, &fd, &err) == LB_OK &&
              lb_os_pread(fd, path, p, t->size_bytes, t->off_bytes, &err) == LB_OK;
    lb_os_close(&fd);
    lb_sha256_init(&h);
    if (ok)
        lb_sha256_update(&h, p, t->size_bytes);
    lb_free(p);
    lb_sha256_hex(&h, hex);
    return ok && lb_str_eq(want, ((lb_str){hex, 16}));
}

/* One of [name, type, shape, digest]; digest_matters: the bytes too. */
static bool same_tensor(const lb_source *s, const lb_tensor *t, const lb_json *want, bool bytes) {
    lb_shape shape;
    lb_dtype type;
    lb_str kind = want->first->next->text;
    bool ok = t && read_shape(want->first->next->next, &shape) && lb_shape_eq(&shape, &t->shape) &&
              (lb_dtype_find_safetensors(kind, &type) || lb_dtype_find(kind, &type)) &&
              type == t->dtype;
    if (ok && (!bytes || digest_is(s, t, want->last->text)))
        return true;
    char a[LB_SHAPE_TEXT];
    lb_test_fail(__FILE__, __LINE__, "%s: '%.*s' %s%s%s%s", what, LB_FMT(want->first->text),
                 t ? "is " : "is missing", t ? lb_dtype_get(t->dtype)->name : "",
                 t ? lb_shape_text(&t->shape, a) : "", ok ? " with other bytes" : "");
    return false;
}

static bool is_lossy(const lb_json *parts, lb_str name) {
    size_t at;
    for (const lb_json *p = parts ? parts->first : NULL; p; p = p->next)
        if (lb_str_find(name, p->text, &at))
            return true;
    return false;
}

/* The model's tensors are those of the list; ordered: in its order; lossy (may be NULL): the bytes
 * of these do not matter. */
static bool same_list(const char *path, const lb_json *want, bool ordered, const lb_json *lossy) {
    lb_source *s = NULL;
    bool ok = lb_open(&s, path, &err) == LB_OK;
    if (!ok)
        lb_test_fail(__FILE__, __LINE__, "%s: %s", what, err.msg);
    if (ok && s->n_tensors != want->n) {
        ok = false;
        for (u64 i = 0; i < s->n_tensors; i++) {
            const lb_json *w = want->first;
            while (w && !lb_str_eq(w->first->text, s->tensors[i].name))
                w = w->next;
            if (!w)
                printf("    %.*s is too many\n", LB_FMT(s->tensors[i].name));
        }
        lb_test_fail(__FILE__, __LINE__, "%s: %llu tensors, expected %llu", what,
                     (unsigned long long)s->n_tensors, (unsigned long long)want->n);
    }
    u64 i = 0;
    bool all = ok || s;
    for (const lb_json *w = want->first; all && w; w = w->next, i++) {
        const lb_tensor *t = lb_source_tensor(s, w->first->text);
        if (ok && ordered && !lb_str_eq(w->first->text, s->tensors[i].name)) {
            lb_test_fail(__FILE__, __LINE__, "%s: tensor %llu is '%.*s', expected '%.*s'", what,
                         (unsigned long long)i, LB_FMT(s->tensors[i].name), LB_FMT(w->first->text));
            ok = false;
        }
        ok = same_tensor(s, t, w, !is_lossy(lossy, w->first->text)) && ok;
    }
    lb_source_close(&s);
    return ok;
}

/* The model's tensors are those of the folder as it was made. */
static bool same_as_source(const char *path, const char *dir, const lb_json *c) {
    lb_source *x = NULL, *s = NULL;
    bool ok = lb_open(&s, path, &err) == LB_OK && lb_open(&x, dir, &err) == LB_OK;
    if (!ok)
        lb_test_fail(__FILE__, __LINE__, "%s: %s", what, err.msg);
    if (ok && x->n_tensors != s->n_tensors) {
        lb_test_fail(__FILE__, __LINE__, "%s: %llu tensors, expected %llu", what,
                     (unsigned long long)s->n_tensors, (unsigned long long)x->n_tensors);
        ok = false;
    }
    for (u64 i = 0; s && x && i < x->n_tensors; i++) {
        const lb_tensor *t = &x->tensors[i], *u = lb_source_tensor(s, t->name);
        char hex[65];
        lb_sha256 h;
        bool same = u && u->dtype == t->dtype && lb_shape_eq(&t->shape, &u->shape);
        u8 *bytes = lb_alloc(t->size_bytes + 1);
        if (bytes && same && (lossless || !is_lossy(lb_json_get(c, "lossy"), t->name))) {
            fill(t->name, t->dtype, t->n_elems, bytes);
            lb_sha256_init(&h);
            lb_sha256_update(&h, bytes, t->size_bytes);
            lb_sha256_hex(&h, hex);
            same = digest_is(s, u, ((lb_str){hex, 16}));
        }
        lb_free(bytes);
        if (!same)
            lb_test_fail(__FILE__, __LINE__, "%s: '%.*s' %s", what, LB_FMT(t->name),
                         u ? "differs" : "is missing");
        ok = ok && same;
    }
    lb_source_close(&x);
    lb_source_close(&s);
    return ok;
}

static bool came_back(const char *path, const char *dir, const lb_json *c, const char *list) {
    const lb_json *want = lb_json_get(c, list);
    const lb_json *lossy = lossless ? NULL : lb_json_get(c, "lossy");
    return want && want->type == LB_JARRAY ? same_list(path, want, false, lossy)
                                           : same_as_source(path, dir, c);
}

/* The architecture's own: general.* goes by the name of the folder and by what the file holds. */
static bool same_arch_keys(const char *path, const lb_json *want) {
    lb_json *list = lb_json_new_array(&arena);
    for (const lb_json *w = want->first; w; w = w->next)
        if (!lb_str_starts(w->first->text, LB_STR("general.")))
            (void)lb_json_push(list, lb_json_copy(&arena, w));
    lb_source *s = NULL;
    lb_gguf_meta own;
    lb_arena perm = {0};
    bool ok = lb_open(&s, path, &err) == LB_OK;
    lb_meta_init(&own, &perm);
    for (u64 i = 0; ok && i < s->gguf->n; i++)
        if (lb_str_starts(s->gguf->kv[i].key, want->first->last->text))
            ok = lb_meta_set(&own, &s->gguf->kv[i], &err) == LB_OK;
    ok = ok && arch_same_meta(what, &own, list, NULL);
    lb_meta_deinit(&own);
    lb_arena_deinit(&perm);
    lb_source_close(&s);
    return ok;
}

static bool same_keys(const char *path, const lb_json *want) {
    lb_source *s = NULL;
    lb_gguf_meta own;
    lb_arena perm = {0};
    bool ok = lb_open(&s, path, &err) == LB_OK;
    if (!ok)
        lb_test_fail(__FILE__, __LINE__, "%s: %s", what, err.msg);
    lb_meta_init(&own, &perm);
    for (u64 i = 0; ok && i < s->gguf->n; i++) {
        const lb_gguf_kv *kv = &s->gguf->kv[i];
        if (!lb_str_starts(kv->key, LB_STR("lbrx.")) &&
            !lb_str_starts(kv->key, LB_STR("tokenizer.")))
            ok = lb_meta_set(&own, kv, &err) == LB_OK;
    }
    ok = ok && arch_same_meta(what, &own, want, NULL);
    lb_meta_deinit(&own);
    lb_arena_deinit(&perm);
    lb_source_close(&s);
    return ok;
}

static bool listed(const lb_json *list, lb_str name) {
    for (const lb_json *v = list->first; v; v = v->next)
        if (lb_str_eq(v->text, name))
            return true;
    return false;
}

static bool same_value(const lb_json *a, const lb_json *b) {
    lb_json *both[2] = {lb_json_copy(&arena, a), lb_json_copy(&arena, b)};
    lb_buf text[2] = {{0}, {0}};
    for (int i = 0; i < 2; i++) {
        lb_json_sort_keys(both[i]);
        lb_json_write(&text[i], both[i], (lb_json_style){0});
    }
    bool same = lb_str_eq(lb_buf_str(&text[0]), lb_buf_str(&text[1]));
    lb_buf_deinit(&text[0]);
    lb_buf_deinit(&text[1]);
    return same;
}

/* A nested config's members are looked at one by one. */
static bool is_nested(const lb_json *v) {
    return v && v->type == LB_JOBJECT && lb_str_ends(v->key, LB_STR("_config"));
}

/* mlx-lm's members, but for those that the case names; before: of the nested config, "x.". */
static bool same_members(const lb_json *got, const lb_json *want, const lb_json *adds,
                         const char *before) {
    bool ok = true;
    for (const lb_json *w = want->first; ok && w; w = w->next) {
        char inner[128];
        const lb_json *g = lb_json_get_str(got, w->key);
        snprintf(inner, sizeof inner, "%s%.*s.", before, LB_FMT(w->key));
        ok = is_nested(g) && is_nested(w) ? same_members(g, w, adds, inner) : g && same_value(g, w);
        if (!ok)
            lb_test_fail(__FILE__, __LINE__, "%s: config.json: '%s%.*s' %s", what, before,
                         LB_FMT(w->key), g ? "differs" : "is missing");
    }
    for (const lb_json *g = ok ? got->first : NULL; g; g = g->next) {
        char name[128];
        snprintf(name, sizeof name, "%s%.*s", before, LB_FMT(g->key));
        if (!lb_json_get_str(want, g->key) && !listed(adds, lb_str_c(name))) {
            lb_test_fail(__FILE__, __LINE__, "%s: config.json has '%s'", what, name);
            ok = false;
        }
    }
    return ok;
}

/* config.json of an MLX folder. */
static bool same_config(const char *dir, const lb_json *want, const lb_json *adds) {
    lb_json *got = NULL;
    lb_str text;
    bool ok = lb_os_read_file(st_path(dir, "config.json"), LB_MIB, &arena, &text, &err) == LB_OK &&
              lb_json_parse(text, "config.json", &arena, &got, &err) == LB_OK;
    if (!ok)
        lb_test_fail(__FILE__, __LINE__, "%s: %s", what, err.msg);
    return ok && same_members(got, want, adds, "");
}

/* ---- one case ---- */

static bool direction(const lb_json *c, const char *text, const char *from, const char *to,
                      lb_to format, const char *dtype) {
    snprintf(what, sizeof what, "%.*s: %s", LB_FMT(arch_str(c, "label")), text);
    if (convert(from, to, format, dtype, NULL) == LB_OK)
        return true;
    lb_test_fail(__FILE__, __LINE__, "%s: %s", what, err.msg);
    return false;
}

/* lbrx diff finds every tensor of one in the other, with the same values. */
/* Not those whose other form loses bits by itself: 1 + w of norms, -exp(A). */
static u64 matrices_that_differ(const lb_diff *d) {
    u64 n = 0;
    size_t at;
    for (u64 i = 0; i < d->n_rows; i++)
        n += !d->rows[i].identical && !lb_str_find(d->rows[i].name, LB_STR("norm"), &at) &&
             !lb_str_find(d->rows[i].name, LB_STR("A_log"), &at);
    return n;
}

static void same(const lb_json *c, const char *text, const char *x, const char *y, bool exact) {
    lb_kernels k;
    lb_source *a = NULL, *b = NULL;
    lb_arena perm = {0};
    lb_diff d = {0};
    lb_kernels_init(&k, lb_cpu_isa());
    lb_diff_options o = {.kernels = &k, .n_threads = 1, .memory_bytes = 64 * LB_MIB};
    bool lossy = !exact && lb_json_get(c, "lossy")->n != 0;
    snprintf(what, sizeof what, "%.*s: %s", LB_FMT(arch_str(c, "label")), text);
    if (lb_open_planned(&a, x, &err) != LB_OK || lb_open_planned(&b, y, &err) != LB_OK ||
        lb_diff_run(&d, a, b, &o, &perm, &err) != LB_OK)
        lb_test_fail(__FILE__, __LINE__, "%s: %s", what, err.msg);
    else if (has_more && (d.n_only_in_b || d.n_rows == 0 || matrices_that_differ(&d)))
        lb_test_fail(__FILE__, __LINE__, "%s: %llu of %llu differ", what,
                     (unsigned long long)matrices_that_differ(&d), (unsigned long long)d.n_rows);
    else if (!has_more && (d.n_only_in_a || d.n_only_in_b || (!lossy && d.n_different)))
        lb_test_fail(__FILE__, __LINE__, "%s: %llu differ, %llu and %llu without a partner", what,
                     (unsigned long long)d.n_different, (unsigned long long)d.n_only_in_a,
                     (unsigned long long)d.n_only_in_b);
    lb_source_close(&a);
    lb_source_close(&b);
    lb_arena_deinit(&perm);
}

static void same_values(const lb_json *c, const char *text, const char *x, const char *y) {
    same(c, text, x, y, false);
}

/* A merge with a model of another format, whose weight is 0, is the model: tensors are paired by
 * what they are, not by name or layout. */
static void merged(const lb_json *c, const char *text, const char *x, const char *y) {
    const char *file = fresh("merge.yml");
    FILE *f = fopen(file, "w");
    CHECK(f);
    fprintf(f, "merge_method: linear\nmodels:\n  - {model: %s, parameters: {weight: 1}}\n", x);
    if (*y)
        fprintf(f, "  - {model: %s, parameters: {weight: 0}}\n", y);
    fclose(f);
    same(c, text, x, file, true);
}

/* ---- adapters ---- */

/* A and B of rank 1 for one matrix, to a header and its data. */
static void put_pair(lb_str module, const lb_shape *s, bool turned, lb_buf *head, lb_buf *data) {
    for (u32 k = 0; k < 2; k++) {
        u64 n = s->dim[turned ? k : 1 - k], from = data->len;
        for (u64 i = 0; i < n; i++)
            lb_buf_put_u32(data, lb_f32_bits(ldexpf((float)(mix((u32)(i + from)) & 255), -11)));
        lb_buf_printf(
            head,
            "%s\"base_model.model.%.*s.lora_%c.weight\":{\"dtype\":\"F32\",\"shape\":[%llu,"
            "%llu],\"data_offsets\":[%llu,%llu]}",
            from ? "," : "{", LB_FMT(module), k ? 'B' : 'A', (unsigned long long)(k ? n : 1),
            (unsigned long long)(k ? 1 : n), (unsigned long long)from,
            (unsigned long long)data->len);
    }
}

/* Whether PEFT has such a module: a linear layer of the language model. *turned: a Conv1D. */
static bool is_linear(const lb_source *s, const lb_weight *w, const lb_arch *a,
                      const lb_hparams *hp, bool *turned) {
    lb_arch_match m;
    if (w->shape.rank != 2 || w->enc.kind != LB_ENC_PLAIN ||
        !lb_str_ends(w->name, LB_STR(".weight")) ||
        lb_dtype_get(s->tensors[w->part[0]].dtype)->cls != LB_CLASS_FLOAT ||
        !lb_arch_find(a, hp, LB_WORLD_HF, w->name, &m) || m.extra != LB_EXTRA_NONE)
        return false;
    lb_role r = (lb_role)m.row->role;
    *turned = lb_arch_is_conv1d(m.row);
    return r != LB_ROLE_TOKEN_EMBD && r != LB_ROLE_POS_EMBD && r != LB_ROLE_OUTPUT &&
           r != LB_ROLE_SSM_CONV;
}

/* An adapter (PEFT) of all linear layers of a folder; NULL: it has none. */
static const char *make_adapter(const char *dir) {
    const char *folder = fresh("adapter");
    lb_source *s = NULL;
    lb_json *config;
    const lb_arch *a;
    lb_hparams hp;
    lb_buf head = {0}, data = {0}, all = {0};
    if (lb_open(&s, dir, &err) != LB_OK ||
        lb_json_parse(s->config, "config.json", &s->perm, &config, &err) != LB_OK ||
        lb_arch_from_config(config, &a, &hp, &err) != LB_OK)
        lb_test_fail(__FILE__, __LINE__, "%s: %s", what, err.msg);
    for (u64 i = 0; s && i < s->n_weights; i++) {
        const lb_weight *w = &s->weights[i];
        bool turned;
        if (is_linear(s, w, a, &hp, &turned))
            put_pair(lb_str_sub(w->name, 0, w->name.len - 7), &w->shape, turned, &head, &data);
    }
    lb_source_close(&s);
    bool any = data.len != 0;
    if (any) {
        u8 len[8];
        lb_buf_put_c(&head, "}");
        lb_store_u64(len, head.len);
        lb_buf_put(&all, len, 8);
        lb_buf_put(&all, head.ptr, head.len);
        lb_buf_put(&all, data.ptr, data.len);
        folder = st_dir("adapter");
        st_write(folder, "adapter_model.safetensors", all.ptr, all.len);
        st_text(folder, "adapter_config.json",
                "{\"peft_type\": \"LORA\", \"r\": 1, \"lora_alpha\": 2}");
    }
    lb_buf_deinit(&head);
    lb_buf_deinit(&data);
    lb_buf_deinit(&all);
    return any ? folder : NULL;
}

/* An adapter does the same to a model in each format. */
static void adapted(const lb_json *c, const char *text, const char *x, const char *y) {
    char with_x[1200], with_y[1200];
    const char *folder = make_adapter(x);
    if (!folder)
        return;
    snprintf(with_x, sizeof with_x, "%s+%s", x, folder);
    snprintf(with_y, sizeof with_y, "%s+%s", y, folder);
    has_more = true; /* towers, layers of prediction */
    same(c, text, with_x, with_y, false);
    has_more = false;
}

/* What is dropped is counted. */
static void said(const lb_json *c, const char *from, lb_to to, const char *want) {
    lb_buf remarks = {0};
    size_t at;
    snprintf(what, sizeof what, "%.*s: remark", LB_FMT(arch_str(c, "label")));
    if (convert(from, fresh("m-said"), to, NULL, &remarks) != LB_OK)
        lb_test_fail(__FILE__, __LINE__, "%s: %s", what, err.msg);
    if (!lb_str_find(lb_buf_str(&remarks), lb_str_c(want), &at))
        lb_test_fail(__FILE__, __LINE__, "%s: '%.*s' lacks '%s'", what,
                     LB_FMT(lb_buf_str(&remarks)), want);
    lb_buf_deinit(&remarks);
}

/* Without layers of multi-token prediction GGUF is as the reference converter makes it. */
static void no_mtp_part(const lb_json *c, const char *dir, const char *type) {
    const lb_json *g = lb_json_get(c, "no_mtp");
    const lb_json *kv = lb_json_get(g, "kv"), *tensors = lb_json_get(g, "tensors");
    const char *whole = fresh("m.gguf"), *bare = fresh("m-bare.gguf");
    mtp = LB_KEEP_DROP;
    if (direction(c, "HF to GGUF without MTP", dir, bare, LB_TO_GGUF, type) && same_keys(bare, kv))
        same_list(bare, tensors, true, NULL);
    mtp = LB_KEEP_AUTO;
    bare = fresh("m-bare.gguf");
    if (direction(c, "HF to GGUF with MTP", dir, whole, LB_TO_GGUF, type)) {
        mtp = LB_KEEP_DROP;
        if (direction(c, "GGUF to GGUF without MTP", whole, bare, LB_TO_GGUF, NULL) &&
            same_arch_keys(bare, kv))
            same_list(bare, tensors, true, NULL);
    }
    mtp = LB_KEEP_AUTO;
}

/* The same by way of HF and MLX, and MLX with them; of a language model alone. */
static void mtp_part(const lb_json *c, const char *dir, const char *mlx, const char *type) {
    const lb_json *g = lb_json_get(c, "no_mtp");
    const lb_json *kv = lb_json_get(g, "kv"), *tensors = lb_json_get(g, "tensors");
    const char *folder = fresh("m-hf"), *back = fresh("m-back"), *other = fresh("m-mlx");
    const char *bare = fresh("m-bare.gguf");
    char count[96];
    lb_source *s = NULL;
    CHECK(lb_open(&s, dir, &err) == LB_OK);
    snprintf(count, sizeof count, "left out: multi-token prediction: %llu tensors, ",
             (unsigned long long)(s->n_tensors - lb_json_get(c, "mlx_back")->n));
    lb_source_close(&s);
    said(c, dir, LB_TO_MLX, count);
    mtp = LB_KEEP_DROP;
    said(c, dir, LB_TO_HF, count);
    said(c, dir, LB_TO_GGUF, count);
    if (direction(c, "HF to HF without MTP", dir, folder, LB_TO_HF, NULL))
        came_back(folder, dir, c, "mlx_back");
    mtp = LB_KEEP_AUTO;
    if (direction(c, "HF without MTP to GGUF", folder, bare, LB_TO_GGUF, type))
        same_list(bare, tensors, false, NULL);
    bare = fresh("m-bare.gguf");
    if (mlx && direction(c, "MLX to GGUF", mlx, bare, LB_TO_GGUF, type) && same_arch_keys(bare, kv))
        same_list(bare, tensors, false, NULL);
    mtp = LB_KEEP_KEEP;
    if (direction(c, "HF to MLX with MTP", dir, other, LB_TO_MLX, NULL) &&
        direction(c, "MLX with MTP to HF", other, back, LB_TO_HF, NULL))
        same_as_source(back, dir, c);
    mtp = LB_KEEP_AUTO;
}

/* A language model that has other parts beside it in MLX comes from GGUF by itself, unless mlx-lm
 * has no class for that. */
static lb_json *alone(const lb_json *tensors, const char *path) {
    lb_json *list = lb_json_copy(&arena, tensors);
    const lb_str outer = LB_STR("language_model.");
    lb_source *s = NULL;
    bool wrapped = lb_open(&s, path, &err) == LB_OK && lb_str_starts(s->tensors[0].name, outer);
    lb_source_close(&s);
    for (lb_json *t = list->first; t && !wrapped; t = t->next)
        if (lb_str_starts(t->first->text, outer))
            t->first->text = lb_str_sub(t->first->text, outer.len, t->first->text.len);
    return list;
}

/* Under --lossless GGUF gives back what a change of values loses, and MLX, which keeps no
 * originals, is refused. */
static void lossless_part(const lb_json *c, const char *dir) {
    const char *file = fresh("l.gguf"), *back = fresh("l-back");
    lossless = true;
    if (lb_json_get(c, "lossy")->n &&
        direction(c, "HF to GGUF, lossless", dir, file, LB_TO_GGUF, NULL) &&
        direction(c, "lossless GGUF to HF", file, back, LB_TO_HF, NULL))
        came_back(back, dir, c, "back");
    const lb_json *lossy = lb_json_get(c, "mlx_lossy");
    if (lossy && lossy->n &&
        convert(dir, fresh("l-mlx"), LB_TO_MLX, NULL, NULL) != LB_E_UNSUPPORTED)
        lb_test_fail(__FILE__, __LINE__, "%.*s: lossless MLX is not refused",
                     LB_FMT(arch_str(c, "label")));
    lossless = false;
}

/* Folders whose experts are stored in a layout that lbrx reads and does not write: merges with
 * another format are refused, tensor by name. */
static bool other_layout(const lb_json *c) {
    static const char *const labels[] = {"Qwen3-Next-Stacked", "ernie-before"};
    for (size_t i = 0; i < LB_LEN(labels); i++)
        if (lb_str_eq_c(arch_str(c, "label"), labels[i]))
            return true;
    return false;
}

static void gguf_part(const lb_json *c, const char *dir, const char *mlx) {
    const lb_json *g = lb_json_get(c, "gguf");
    char type[8];
    bool same_type = false;
    const char *file = fresh("a.gguf"), *back = fresh("a-back"), *other = fresh("b.gguf"),
               *cross = fresh("a-mlx");
    (void)lb_json_as_bool(lb_json_get(c, "same_type"), &same_type);
    snprintf(type, sizeof type, "%.*s", LB_FMT(arch_str(c, "outtype")));
    if (!g || g->type == LB_JNULL) {
        if (convert(dir, file, LB_TO_GGUF, NULL, NULL) == LB_OK)
            lb_test_fail(__FILE__, __LINE__, "%.*s: GGUF is not refused",
                         LB_FMT(arch_str(c, "label")));
        return;
    }
    bool keep = false;
    (void)lb_json_as_bool(lb_json_get(c, "keep"), &keep);
    if (!direction(c, "HF to GGUF", dir, file, LB_TO_GGUF, keep ? NULL : type) ||
        !same_keys(file, lb_json_get(g, "kv")) ||
        !same_list(file, lb_json_get(g, "tensors"), true, NULL))
        return;
    const lb_json *back_list = lb_json_get(c, "back");
    if (lb_json_get(c, "no_mtp")) {
        no_mtp_part(c, dir, type);
        if (!back_list || back_list->type == LB_JNULL)
            mtp_part(c, dir, mlx, type);
    }
    if (mlx && !lb_json_get(c, "no_mtp") &&
        direction(c, "MLX to GGUF", mlx, other, LB_TO_GGUF, keep ? NULL : type))
        same_list(other, lb_json_get(g, "tensors"), false, lb_json_get(c, "mlx_lossy"));
    if (!same_type)
        return;
    lossless_part(c, dir);
    same_values(c, "diff of HF and GGUF", dir, file);
    if (!other_layout(c))
        merged(c, "merge of HF and GGUF", dir, file);
    if (!other_layout(c))
        adapted(c, "adapter on HF and GGUF", dir, file);
    merged(c, "merge of a GGUF", file, "");
    if (mlx)
        same_values(c, "diff of GGUF and MLX", file, mlx);
    if (direction(c, "GGUF to HF", file, back, LB_TO_HF, NULL))
        came_back(back, dir, c, "back");
    if (mlx && direction(c, "GGUF to MLX", file, cross, LB_TO_MLX, NULL))
        same_list(cross, alone(lb_json_get(lb_json_get(c, "mlx"), "tensors"), cross), false,
                  lb_json_get(c, "lossy"));
}

static void one(const lb_json *c) {
    const lb_json *m = lb_json_get(c, "mlx");
    const char *dir = build(c), *mlx = fresh("mlx"), *back = fresh("mlx-back");
    bool has_mlx = m && m->type == LB_JOBJECT;
    if (!direction(c, "HF to MLX", dir, mlx, LB_TO_MLX, NULL))
        return;
    if (has_mlx) {
        same_list(mlx, lb_json_get(m, "tensors"), false, NULL);
        same_config(mlx, lb_json_get(m, "config"), lb_json_get(c, "mlx_adds"));
    }
    if (direction(c, "MLX to HF", mlx, back, LB_TO_HF, NULL))
        came_back(back, dir, c, "mlx_back");
    if (!other_layout(c))
        merged(c, "merge of HF and MLX", dir, mlx);
    if (!other_layout(c))
        adapted(c, "adapter on HF and MLX", dir, mlx);
    bool keep = false;
    (void)lb_json_as_bool(lb_json_get(c, "keep"), &keep);
    if (keep && direction(c, "codes as values", dir, fresh("values"), LB_TO_HF, "bf16"))
        came_back(st_path(lb_test_dir(), "values"), dir, c, "mlx_back");
    gguf_part(c, dir, has_mlx ? mlx : NULL);
}

LB_TEST(families) {
    lb_str *names;
    u64 n, n_cases = 0;
    CHECK_OK(lb_os_list(lb_test_golden("family"), &arena, &names, &n, &err));
    for (u64 i = 0; i < n; i++) {
        char name[96];
        if (!lb_str_ends(names[i], LB_STR(".json")) || lb_str_starts(names[i], LB_STR("tokenizer")))
            continue;
        snprintf(name, sizeof name, "../family/%.*s", LB_FMT(names[i]));
        const lb_json *g = arch_golden(name, &arena);
        CHECK(g);
        for (const lb_json *c = lb_json_get(g, "cases")->first; c; c = c->next, n_cases++)
            one(c);
    }
    CHECK(n_cases > 0);
    lb_arena_deinit(&arena);
}

LB_TEST_MAIN("slow")
