/* SPDX-License-Identifier: Apache-2.0 */
/* hf_texts.c: see hf_texts.h. */
#include "ops/hf_texts.h"
#include "base/os.h"
#include "io/out.h"
#include "text/tokdata.h"

/* A GGUF's rope factors as f32 values: small, read at planning. *out NULL: there are none. */
static lb_status read_factors(const lb_source *s, lb_arena *perm, const char *name,
                              const float **out, u64 *n, lb_err *err) {
    const lb_weight *w = lb_source_weight(s, lb_str_c(name));
    *out = NULL;
    *n = 0;
    if (!w)
        return LB_OK;
    const lb_tensor *t = &s->tensors[w->part[0]];
    if (t->dtype != LB_F32 || t->n_elems > 65536)
        return lb_fail(err, LB_E_UNSUPPORTED, "tensor '%s': expected a short vector of f32", name);
    float *v = lb_arena_new(perm, float, t->n_elems + 1);
    int fd = -1;
    if (!v)
        return lb_fail(err, LB_E_NOMEM, "out of memory for rope factors");
    LB_TRY(lb_os_open_read(s->files[t->file].path, &fd, err));
    lb_status st = lb_os_pread(fd, s->files[t->file].path, v, t->size_bytes, t->off_bytes, err);
    lb_os_close(&fd);
    *out = v;
    *n = t->n_elems;
    return st;
}

static lb_status rope_factors(const lb_source *s, lb_arena *perm, lb_arch_config_in *in,
                              lb_err *err) {
    u64 n_short;
    LB_TRY(read_factors(s, perm, "rope_freqs.weight", &in->rope_freqs, &in->n_rope_freqs, err));
    LB_TRY(
        read_factors(s, perm, "rope_factors_long.weight", &in->rope_long, &in->n_rope_long, err));
    LB_TRY(read_factors(s, perm, "rope_factors_short.weight", &in->rope_short, &n_short, err));
    if (n_short != in->n_rope_long)
        return lb_fail(err, LB_E_FORMAT,
                       "rope_factors_long.weight has %llu values, rope_factors_short.weight %llu",
                       (unsigned long long)in->n_rope_long, (unsigned long long)n_short);
    return LB_OK;
}

lb_status lb_hf_texts_of_gguf(const lb_ctensors *c, lb_dtype dtype, lb_arena *perm,
                              lb_arch_config_out *out, lb_err *err) {
    lb_arch_config_in in = {.meta = c->source->gguf, .seen = &c->seen, .dtype = dtype};
    LB_TRY(rope_factors(c->source, perm, &in, err));
    return lb_arch_config_from_meta(&in, perm, out, err);
}

static lb_status keep(lb_arena *perm, lb_buf *b, lb_status st, lb_str *out, lb_err *err) {
    if (st == LB_OK)
        st = lb_buf_status(b, err);
    if (st == LB_OK) {
        *out = lb_arena_str(perm, lb_buf_str(b));
        st = out->ptr ? LB_OK : lb_fail(err, LB_E_NOMEM, "out of memory for a model's files");
    }
    lb_buf_deinit(b);
    return st;
}

static lb_status take_config(lb_source *s, const lb_ctensors *c, lb_buf *notes, lb_err *err) {
    lb_arch_config_out out;
    lb_buf b = {0};
    LB_TRY(lb_hf_texts_of_gguf(c, c->main_dtype, &s->perm, &out, err));
    for (u32 i = 0; i < out.n_notices; i++)
        lb_buf_printf(notes, "config.json: %s\n", out.notices[i]);
    s->config = out.config;
    if (out.original) /* its type may have been another */
        LB_TRY(keep(&s->perm, &b, lb_arch_config_to_hf(out.config, c->main_dtype, 0, &b, err),
                    &s->config, err));
    LB_TRY(lb_computed_side(s, LB_STR("config.json"), s->config, false, err));
    return out.generation.len
               ? lb_computed_side(s, LB_STR("generation_config.json"), out.generation, false, err)
               : LB_OK;
}

lb_status lb_hf_texts_tokenizer(lb_source *s, const lb_source *from, lb_err *err) {
    lb_tok_file *files;
    u64 n;
    LB_TRY(lb_tok_files_from_meta(from->gguf, &s->perm, &files, &n, err));
    for (u64 i = 0; i < n; i++) {
        lb_buf b = {0};
        lb_out to = {.put = lb_out_to_buf, .ctx = &b};
        lb_str bytes = files[i].bytes;
        if (files[i].meta) {
            lb_status st = lb_tok_file_write(&files[i], &to, err), end = lb_out_end(&to, err);
            LB_TRY(keep(&s->perm, &b, st == LB_OK ? end : st, &bytes, err));
        }
        LB_TRY(lb_computed_side(s, files[i].name, bytes, false, err));
    }
    return LB_OK;
}

lb_status lb_hf_texts_take(lb_source *s, const lb_source *from, const lb_ctensors *c, lb_buf *notes,
                           lb_err *err) {
    if (from->format != LB_FORMAT_GGUF) {
        s->config = from->config;
        return lb_computed_sides_of(s, from, err);
    }
    LB_TRY(take_config(s, c, notes, err));
    return lb_hf_texts_tokenizer(s, from, err);
}
