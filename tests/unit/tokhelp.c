/* SPDX-License-Identifier: Apache-2.0 */
/* tokhelp.c: see tokhelp.h. */
#include "tokhelp.h"

#include "base/hash.h"
#include "base/os.h"
#include "io/json.h"

lb_source *tok_source(const char *dir, lb_err *err) {
    lb_source *s = lb_source_new(LB_FORMAT_HF, dir);
    lb_str *names;
    u64 n;
    if (!s) {
        (void)lb_fail(err, LB_E_NOMEM, "out of memory");
        return NULL;
    }
    if (lb_os_list(dir, &s->perm, &names, &n, err) != LB_OK)
        goto bad;
    s->sides = lb_arena_new(&s->perm, lb_side_file, n);
    for (u64 i = 0; i < n; i++) {
        const char *path = lb_os_join(&s->perm, dir, names[i]);
        lb_fstat st;
        if (lb_os_stat(path, &st, err) != LB_OK)
            goto bad;
        if (!st.is_file)
            continue;
        s->sides[s->n_sides++] =
            (lb_side_file){.name = names[i], .path = path, .size_bytes = st.size_bytes};
        if (lb_str_eq_c(names[i], "config.json") &&
            lb_os_read_file(path, LB_MIB, &s->perm, &s->config, err) != LB_OK)
            goto bad;
    }
    return s;
bad:
    lb_source_close(&s);
    return NULL;
}

static void hash_array(const lb_gguf_kv *kv, lb_buf *out) {
    lb_sha256 sha;
    char hex[65];
    lb_sha256_init(&sha);
    if (kv->elem == LB_GGUF_STR) {
        for (u64 i = 0; i < kv->n; i++) {
            lb_str s = LB_STR_NONE;
            u8 len[8];
            (void)lb_kv_elem_str(kv, i, &s);
            lb_store_u64(len, s.len);
            lb_sha256_update(&sha, len, 8);
            lb_sha256_update(&sha, s.ptr, s.len);
        }
    } else {
        lb_sha256_update(&sha, kv->v.array, (size_t)(kv->n * lb_gguf_type_bytes(kv->elem)));
    }
    lb_sha256_hex(&sha, hex);
    lb_buf_printf(out, "{\"n\": %llu, \"sha256\": \"%s\"}", (unsigned long long)kv->n, hex);
}

static void put_elem(const lb_gguf_kv *kv, u64 i, lb_buf *out) {
    lb_str s;
    i64 n;
    double d;
    if (kv->elem == LB_GGUF_STR && lb_kv_elem_str(kv, i, &s))
        lb_json_write_str(out, s, true);
    else if ((kv->elem == LB_GGUF_F32 || kv->elem == LB_GGUF_F64) && lb_kv_elem_f64(kv, i, &d))
        lb_json_write_f64(out, d);
    else if (lb_kv_elem_i64(kv, i, &n))
        lb_buf_printf(out, "%lld", (long long)n);
}

static void put_value(const lb_gguf_kv *kv, bool long_as_hash, lb_buf *out) {
    i64 n;
    switch (kv->type) {
    case LB_GGUF_STR:
        lb_json_write_str(out, kv->v.s, true);
        break;
    case LB_GGUF_BOOL:
        lb_buf_put_c(out, kv->v.u ? "true" : "false");
        break;
    case LB_GGUF_F32:
    case LB_GGUF_F64:
        lb_json_write_f64(out, kv->v.f);
        break;
    case LB_GGUF_ARRAY:
        if (long_as_hash && kv->n > 16) {
            hash_array(kv, out);
            break;
        }
        lb_buf_put_c(out, "[");
        for (u64 i = 0; i < kv->n; i++) {
            lb_buf_put_c(out, i ? ", " : "");
            put_elem(kv, i, out);
        }
        lb_buf_put_c(out, "]");
        break;
    default:
        if (lb_kv_as_i64(kv, &n))
            lb_buf_printf(out, "%lld", (long long)n);
        break;
    }
}

void tok_dump(const lb_gguf_meta *meta, bool long_as_hash, lb_buf *out) {
    lb_buf_put_c(out, "{");
    for (u64 i = 0; i < meta->n; i++) {
        const lb_gguf_kv *kv = &meta->kv[i];
        lb_buf_put_c(out, i ? ",\n" : "\n");
        lb_json_write_str(out, kv->key, true);
        lb_buf_printf(out, ": {\"type\": \"%s\", ", lb_gguf_type_name(kv->type));
        if (kv->type == LB_GGUF_ARRAY)
            lb_buf_printf(out, "\"elem\": \"%s\", ", lb_gguf_type_name(kv->elem));
        lb_buf_put_c(out, "\"value\": ");
        put_value(kv, long_as_hash, out);
        lb_buf_put_c(out, "}");
    }
    lb_buf_put_c(out, "\n}\n");
}

lb_status tok_keys(const lb_source *s, const lb_tok_opts *opts, lb_gguf_meta *meta, lb_err *err) {
    lb_tok *tok = NULL;
    LB_TRY(lb_tok_open(&tok, s, err));
    lb_status st = lb_tok_to_meta(tok, opts, meta, NULL, err);
    if (st == LB_OK && opts->keep)
        st = lb_tok_keep(tok, meta, meta, err);
    lb_tok_close(&tok);
    return st;
}

lb_str tok_bytes(const lb_tok_file *f, lb_arena *a, lb_err *err) {
    lb_buf b = {0};
    lb_out out = {.put = lb_out_to_buf, .ctx = &b};
    lb_status st = lb_tok_file_write(f, &out, err);
    lb_status end = lb_out_end(&out, st == LB_OK ? err : NULL);
    lb_str s = st == LB_OK && end == LB_OK ? lb_arena_str(a, lb_buf_str(&b)) : LB_STR_NONE;
    lb_buf_deinit(&b);
    return s;
}
