/* SPDX-License-Identifier: Apache-2.0 */
/* inspect.c: sums, hashes and the JSON form of a model's directory. */
#include "ops/inspect.h"
#include "base/hash.h"
#include "base/interrupt.h"
#include "base/os.h"
#include "base/thread.h"
#include "format/imatrix.h"
#include "ops/canon.h"
#include "ops/work.h"

#define HASH_CHUNK_BYTES LB_MIB

static lb_status read_config(lb_inspect *out, const lb_source *s, lb_arena *perm, lb_err *err) {
    lb_json *tree = NULL;
    if (s->config.len) {
        LB_TRY(lb_json_parse(s->config, "config.json", perm, &tree, err));
        out->config = tree;
    } else if (s->st_metadata.len && s->format == LB_FORMAT_SAFETENSORS) {
        LB_TRY(lb_json_parse(s->st_metadata, "__metadata__", perm, &tree, err));
        out->config = tree;
    }
    return LB_OK;
}

/* GGUF's own word for it; for a folder the table's name where the family is known, else the
 * config's. */
static lb_status find_architecture(lb_inspect *in, lb_arena *perm, lb_err *err) {
    lb_canon canon;
    lb_str *name = &in->architecture;
    if (in->source->gguf) {
        (void)lb_kv_as_str(lb_meta_find(in->source->gguf, "general.architecture"), name);
        return LB_OK;
    }
    LB_TRY(lb_canon_init(&canon, in->source, perm, err));
    if (canon.arch)
        *name = lb_str_c(lb_arch_name(canon.arch));
    else if (!lb_json_as_str(lb_json_get(in->config, "model_type"), name))
        (void)lb_json_as_str(lb_json_path(in->config, "text_config.model_type"), name);
    return LB_OK;
}

lb_status lb_inspect_run(lb_inspect *out, const lb_source *s, lb_arena *perm, lb_err *err) {
    memset(out, 0, sizeof *out);
    out->source = s;
    LB_TRY(read_config(out, s, perm, err));
    LB_TRY(find_architecture(out, perm, err));
    for (u64 i = 0; i < s->n_tensors; i++) {
        const lb_tensor *t = &s->tensors[i];
        lb_inspect_type *sum = &out->type[t->dtype];
        sum->n_tensors++;
        /* Ranges lie in files and do not overlap, so these sums are below the sum of file sizes. */
        sum->n_elems += t->n_elems;
        sum->size_bytes += t->size_bytes;
        out->size_bytes += t->size_bytes;
    }
    for (u64 i = 0; i < s->n_weights && !s->imatrix; i++) {
        u64 n;
        if (!lb_shape_elems(&s->weights[i].shape, &n) ||
            !lb_add_u64(out->n_params, n, &out->n_params))
            return lb_fail(err, LB_E_FORMAT, "weight '%.*s': too many elements",
                           LB_FMT(s->weights[i].name));
    }
    return LB_OK;
}

double lb_inspect_bpw(const lb_inspect *i) {
    return i->n_params ? (double)i->size_bytes * 8 / (double)i->n_params : 0;
}

/* ---- hashes ---- */

typedef struct hash_job {
    const lb_source *source;
    lb_fds *fds;
    u8 *buffers; /* HASH_CHUNK_BYTES a worker */
    char (*sha256)[65];
    const lb_inspect_hash_options *o;
    u64 total_bytes;
    lb_mutex lock; /* of the next */
    u64 done_bytes;
} hash_job;

static void report_progress(hash_job *job, u64 bytes) {
    lb_lock(&job->lock);
    job->done_bytes += bytes;
    if (job->o->progress)
        job->o->progress(job->o->user, job->done_bytes, job->total_bytes);
    lb_unlock(&job->lock);
}

static lb_status hash_tensor(void *ctx, u32 worker, u64 item, lb_err *err) {
    hash_job *job = ctx;
    const lb_tensor *t = &job->source->tensors[item];
    const char *path = job->source->files[t->file].path;
    u8 *buffer = job->buffers + (size_t)worker * HASH_CHUNK_BYTES;
    lb_sha256 sha;
    int fd;
    lb_status st = LB_OK;
    lb_sha256_init(&sha);
    LB_TRY(lb_fds_get(job->fds, t->file, &fd, err));
    for (u64 done = 0; done < t->size_bytes && st == LB_OK;) {
        u64 n = LB_MIN(t->size_bytes - done, HASH_CHUNK_BYTES);
        st = lb_os_pread(fd, path, buffer, n, t->off_bytes + done, err);
        if (st == LB_OK)
            lb_sha256_update(&sha, buffer, (size_t)n);
        if (st == LB_OK)
            st = lb_interrupt_check(err);
        done += n;
        report_progress(job, n);
    }
    lb_fds_put(job->fds, t->file);
    lb_sha256_hex(&sha, job->sha256[item]);
    return st;
}

lb_status lb_inspect_hash(lb_inspect *out, const lb_inspect_hash_options *o, lb_arena *perm,
                          lb_err *err) {
    const lb_source *s = out->source;
    hash_job job = {.source = s, .o = o, .total_bytes = out->size_bytes};
    lb_status st;
    u64 fit = LB_MIN(o->memory_bytes / 2 / HASH_CHUNK_BYTES, (u64)LB_WORK_THREADS_MAX);
    u32 n_threads = LB_MAX(1u, LB_MIN(o->n_threads, (u32)fit));
    u64 size = n_threads * HASH_CHUNK_BYTES;
    job.sha256 = lb_arena_push_array(perm, s->n_tensors, sizeof *job.sha256, 1);
    job.buffers = lb_os_map_anon(size);
    if (!job.sha256 || !job.buffers) {
        lb_os_unmap(job.buffers, size);
        return lb_fail(err, LB_E_NOMEM, "out of memory for %u threads", n_threads);
    }
    lb_mutex_init(&job.lock);
    LB_TRY_DONE(st, lb_fds_new(&job.fds, s->files, s->n_files, LB_WORK_FILES_MAX, err));
    LB_TRY_DONE(st, lb_work_run(n_threads, s->n_tensors, hash_tensor, &job, err));
    out->sha256 = (const char(*)[65])job.sha256;
done:
    lb_mutex_deinit(&job.lock);
    lb_fds_free(&job.fds);
    lb_os_unmap(job.buffers, size);
    return st;
}

/* ---- JSON ---- */

static void put_kv_scalar(lb_buf *out, const lb_gguf_kv *kv) {
    switch (kv->type) {
    case LB_GGUF_BOOL:
        lb_buf_put_c(out, kv->v.u ? "true" : "false");
        break;
    case LB_GGUF_STR:
        lb_json_write_str(out, kv->v.s, false);
        break;
    case LB_GGUF_F32:
    case LB_GGUF_F64:
        lb_json_write_number(out, kv->v.f);
        break;
    case LB_GGUF_I8:
    case LB_GGUF_I16:
    case LB_GGUF_I32:
    case LB_GGUF_I64:
        lb_buf_printf(out, "%lld", (long long)kv->v.i);
        break;
    default:
        lb_buf_printf(out, "%llu", (unsigned long long)kv->v.u);
        break;
    }
}

/* Element i as a pair of its own, for put_kv_scalar. */
static lb_gguf_kv element(const lb_gguf_kv *kv, u64 i) {
    lb_gguf_kv e = {.type = kv->elem};
    if (kv->elem == LB_GGUF_STR)
        (void)lb_kv_elem_str(kv, i, &e.v.s);
    else
        (void)lb_kv_load(&e, kv->elem, (const u8 *)kv->v.array + i * lb_gguf_type_bytes(kv->elem));
    return e;
}

/* Of the elements as a file stores them: a string is its length (u64) and its bytes. */
static void array_sha256(const lb_gguf_kv *kv, char hex[65]) {
    lb_sha256 sha;
    lb_sha256_init(&sha);
    if (kv->elem != LB_GGUF_STR) {
        lb_sha256_update(&sha, kv->v.array, (size_t)(kv->n * lb_gguf_type_bytes(kv->elem)));
    } else {
        for (u64 i = 0; i < kv->n; i++) {
            lb_str s = lb_texts_get(kv->v.texts, i);
            u8 len[8];
            lb_store_u64(len, s.len);
            lb_sha256_update(&sha, len, sizeof len);
            lb_sha256_update(&sha, s.ptr, s.len);
        }
    }
    lb_sha256_hex(&sha, hex);
}

void lb_inspect_kv(const lb_gguf_kv *kv, lb_buf *out) {
    if (kv->type != LB_GGUF_ARRAY) {
        put_kv_scalar(out, kv);
    } else if (kv->n > LB_INSPECT_ARRAY_MAX) {
        char hex[65];
        array_sha256(kv, hex);
        lb_buf_printf(out, "{\"type\": \"%s\", \"length\": %llu, \"sha256\": \"%s\"}",
                      lb_gguf_type_name(kv->elem), (unsigned long long)kv->n, hex);
    } else {
        lb_buf_put_c(out, "[");
        for (u64 i = 0; i < kv->n; i++) {
            lb_gguf_kv e = element(kv, i);
            if (i)
                lb_buf_put_c(out, ", ");
            put_kv_scalar(out, &e);
        }
        lb_buf_put_c(out, "]");
    }
}

static void put_metadata(const lb_inspect *in, lb_buf *out) {
    const lb_gguf_meta *m = in->source->gguf;
    if (!m) {
        if (in->config)
            lb_json_write(out, in->config, (lb_json_style){.strict = true});
        else
            lb_buf_put_c(out, "{}");
        return;
    }
    lb_buf_put_c(out, "{");
    for (u64 i = 0; i < m->n; i++) {
        if (i)
            lb_buf_put_c(out, ", ");
        lb_json_write_str(out, m->kv[i].key, false);
        lb_buf_put_c(out, ": ");
        lb_inspect_kv(&m->kv[i], out);
    }
    lb_buf_put_c(out, "}");
}

static void put_tensor(const lb_inspect *in, u64 index, lb_buf *out) {
    const lb_tensor *t = &in->source->tensors[index];
    lb_buf_put_c(out, "{\"name\": ");
    lb_json_write_str(out, t->name, false);
    lb_buf_printf(out, ", \"type\": \"%s\", \"shape\": [", lb_dtype_get(t->dtype)->name);
    for (u32 d = 0; d < t->shape.rank; d++)
        lb_buf_printf(out, "%s%llu", d ? ", " : "", (unsigned long long)t->shape.dim[d]);
    lb_buf_printf(out, "], \"bytes\": %llu, \"file\": ", (unsigned long long)t->size_bytes);
    lb_json_write_str(out, in->source->n_files ? in->source->files[t->file].name : LB_STR(""),
                      false);
    lb_buf_printf(out, ", \"offset\": %llu", (unsigned long long)t->off_bytes);
    if (in->sha256)
        lb_buf_printf(out, ", \"sha256\": \"%s\"", in->sha256[index]);
    lb_buf_put_c(out, "}");
}

/* What the file does not say is null: the chunks of an old one, the matrices of a legacy one. */
static void put_imatrix_entry(const lb_imatrix *im, const lb_imatrix_entry *e, lb_buf *out) {
    lb_buf_put_c(out, "{\"name\": ");
    lb_json_write_str(out, e->name, false);
    lb_buf_printf(out, ", \"values\": %llu", (unsigned long long)e->n_values);
    if (im->legacy)
        lb_buf_put_c(out, ", \"columns\": null, \"experts\": null");
    else
        lb_buf_printf(out, ", \"columns\": %llu, \"experts\": %llu", (unsigned long long)e->n_cols,
                      (unsigned long long)e->n_mats);
    lb_buf_put_c(out, ", \"counts\": [");
    for (u64 i = 0; i < e->n_counts; i++) /* whole numbers below 2^62 */
        lb_buf_printf(out, "%s%llu", i ? ", " : "", (unsigned long long)e->counts[i]);
    lb_buf_put_c(out, "]}");
}

static void put_imatrix(const lb_imatrix *im, lb_buf *out) {
    lb_buf_printf(out, ", \"imatrix\": {\"legacy\": %s, \"datasets\": [",
                  im->legacy ? "true" : "false");
    for (u64 i = 0; i < im->n_datasets; i++) {
        lb_buf_put_c(out, i ? ", " : "");
        lb_json_write_str(out, im->datasets[i], false);
    }
    lb_buf_put_c(out, "], \"chunk_count\": ");
    if (im->has_chunks)
        lb_buf_printf(out, "%llu", (unsigned long long)im->chunk_count);
    else
        lb_buf_put_c(out, "null");
    lb_buf_put_c(out, ", \"chunk_size\": ");
    if (im->legacy)
        lb_buf_put_c(out, "null");
    else
        lb_buf_printf(out, "%llu", (unsigned long long)im->chunk_size);
    lb_buf_put_c(out, ", \"entries\": [");
    for (u64 i = 0; i < im->n_entries; i++) {
        lb_buf_put_c(out, i ? ",\n" : "\n");
        put_imatrix_entry(im, &im->entries[i], out);
    }
    lb_buf_put_c(out, "]}");
}

lb_status lb_inspect_json(const lb_inspect *in, lb_buf *out, lb_err *err) {
    const lb_source *s = in->source;
    lb_buf_printf(out, "{\"format\": \"%s\", \"architecture\": ", lb_format_name(s->format));
    if (in->architecture.len)
        lb_json_write_str(out, in->architecture, false);
    else
        lb_buf_put_c(out, "null");
    lb_buf_printf(out, ", \"parameters\": %llu, \"bytes\": %llu, \"bpw\": ",
                  (unsigned long long)in->n_params, (unsigned long long)in->size_bytes);
    lb_json_write_number(out, lb_inspect_bpw(in));
    lb_buf_put_c(out, ", \"metadata\": ");
    put_metadata(in, out);
    lb_buf_put_c(out, ", \"tensors\": [");
    for (u64 i = 0; i < s->n_tensors; i++) {
        lb_buf_put_c(out, i ? ",\n" : "\n");
        put_tensor(in, i, out);
    }
    lb_buf_put_c(out, "]");
    if (s->imatrix)
        put_imatrix(s->imatrix, out);
    lb_buf_put_c(out, "}\n");
    return lb_buf_status(out, err);
}
