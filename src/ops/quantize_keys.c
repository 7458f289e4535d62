/* SPDX-License-Identifier: Apache-2.0 */
/* quantize_keys.c: the keys of a quantized GGUF and their order, as llama-quantize leaves them:
 * what it sets goes to the end, in this order: version and file type, --override-kv, the importance
 * file, the number of layers that --prune-layers leaves. Source: src/llama-quant.cpp,
 * tools/quantize/quantize.cpp and string_parse_kv_override of common/common.cpp of llama-cpp-python
 * 0.3.36. */
#include "base/os.h"
#include "ops/quantize_internal.h"

#define TEXT_BYTES_MAX 127 /* of what it takes down of the importance file */

/* ---- --override-kv ---- */

/* KEY=int:V is a u32 there, float: an f32. Other types are those of --set. */
static lb_status key_text(lb_conv *c, const char *text, lb_str *key, const char **out,
                          lb_err *err) {
    static const struct {
        const char *theirs, *ours;
    } types[] = {{"=int:", "=u32:"}, {"=float:", "=f32:"}};
    lb_str s = lb_str_c(text);
    size_t eq = 0, at;
    (void)lb_str_find(s, LB_STR("="), &eq);
    *key = lb_arena_str(c->perm, lb_str_sub(s, 0, eq));
    *out = text;
    for (u32 i = 0; i < LB_LEN(types); i++)
        if (lb_str_find(s, lb_str_c(types[i].theirs), &at) && at == eq)
            *out = lb_arena_printf(c->perm, "%.*s%s%s", (int)eq, text, types[i].ours,
                                   text + eq + strlen(types[i].theirs))
                       .ptr;
    return key->ptr && *out ? LB_OK : lb_fail(err, LB_E_NOMEM, "out of memory for metadata");
}

lb_status lb_quantize_override_keys(lb_conv *c, lb_err *err) {
    const lb_quantize_opts *o = c->quantizer->o;
    for (u32 i = 0; i < o->n_override_kv; i++) {
        const char *text = NULL;
        lb_str key;
        LB_TRY(key_text(c, o->override_kv[i], &key, &text, err));
        lb_status st = lb_conv_set_key(c, text, err);
        if (st != LB_OK) {
            lb_err_context(err, "--override-kv");
            return st;
        }
    }
    return LB_OK;
}

/* ---- one output ---- */

static lb_status set_last(lb_gguf_meta *m, const char *key, u32 v, lb_err *err) {
    lb_meta_remove(m, key);
    return lb_meta_set_u32(m, key, v, err);
}

static lb_status set_text_last(lb_gguf_meta *m, const char *key, lb_str s, lb_err *err) {
    size_t n = LB_MIN(s.len, (size_t)TEXT_BYTES_MAX);
    while (n < s.len && n > 0 && ((u8)s.ptr[n] & 0xc0) == 0x80) /* no half of a character */
        n--;
    lb_meta_remove(m, key);
    return lb_meta_set_str(m, key, lb_str_sub(s, 0, n), err);
}

/* Whether --set or --unset names the key: then the user has the last word. */
static bool is_users(const lb_conv *c, const char *key) {
    size_t n = strlen(key);
    for (u32 i = 0; i < c->o->n_set; i++)
        if (strncmp(c->o->set[i], key, n) == 0 && c->o->set[i][n] == '=')
            return true;
    for (u32 i = 0; i < c->o->n_unset; i++)
        if (strcmp(c->o->unset[i], key) == 0)
            return true;
    return false;
}

static lb_status put_overrides(lb_conv *c, lb_gguf_meta *m, lb_err *err) {
    const lb_quantize_opts *o = c->quantizer->o;
    for (u32 i = 0; i < o->n_override_kv; i++) {
        const char *text;
        lb_str key;
        LB_TRY(key_text(c, o->override_kv[i], &key, &text, err));
        lb_meta_remove(m, key.ptr);
        LB_TRY(lb_meta_share(m, lb_meta_find(c->model.meta, key.ptr), err));
    }
    return LB_OK;
}

static lb_status put_importance(lb_conv *c, lb_gguf_meta *m, lb_err *err) {
    const lb_importance *x = &c->quantizer->importance;
    if (!x->file || x->n_entries == 0)
        return LB_OK;
    const lb_imatrix *im = x->file->imatrix;
    LB_TRY(set_text_last(m, "quantize.imatrix.file",
                         lb_os_base_name(lb_str_c(c->quantizer->o->imatrix)), err));
    if (im->n_datasets)
        LB_TRY(set_text_last(m, "quantize.imatrix.dataset", im->datasets[0], err));
    LB_TRY(set_last(m, "quantize.imatrix.entries_count", (u32)x->n_entries, err));
    if (im->chunk_count)
        LB_TRY(set_last(m, "quantize.imatrix.chunks_count", (u32)im->chunk_count, err));
    return LB_OK;
}

lb_status lb_quantize_keys(lb_conv *c, u32 k, u32 file_type, lb_err *err) {
    const lb_gguf_meta *from = c->model.meta;
    lb_gguf_meta *m = &c->quantizer->meta[k];
    lb_meta_init(m, c->perm);
    lb_str arch = {0};
    (void)lb_kv_as_str(lb_meta_find(from, "general.architecture"), &arch);
    for (u64 i = 0; i < from->n; i++)
        LB_TRY(lb_quantize_pruned_key(c, &from->kv[i], arch, m, err));
    if (!is_users(c, "general.quantization_version"))
        LB_TRY(set_last(m, "general.quantization_version", 2, err));
    if (!is_users(c, "general.file_type"))
        LB_TRY(set_last(m, "general.file_type", file_type, err));
    LB_TRY(put_overrides(c, m, err));
    LB_TRY(put_importance(c, m, err));
    if (!c->quantizer->pruned)
        return LB_OK;
    lb_str key = lb_arena_printf(c->perm, "%.*s.block_count", LB_FMT(arch));
    return key.ptr ? set_last(m, key.ptr, (u32)c->quantizer->n_layers_left, err)
                   : lb_fail(err, LB_E_NOMEM, "out of memory for metadata");
}
