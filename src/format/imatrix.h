/* SPDX-License-Identifier: Apache-2.0 */
/* imatrix.h: importance matrices: how much each column of a model's matrices matters, as
 * llama-imatrix measured it.
 *
 * Two forms, told apart by their bytes: GGUF (general.type "imatrix"; for each matrix NAME the sums
 * NAME.in_sum2 and the counts NAME.counts), and the legacy .dat, which has no magic number. Opening
 * reads the directory and the counts and checks them; the sums stay in the file and are checked as
 * they are read. Values are those of llama-quantize, bit for bit.
 *
 * Format and arithmetic: tools/imatrix/imatrix.cpp (save_imatrix, save_imatrix_legacy),
 * common/imatrix-loader.cpp and tools/quantize/quantize.cpp (load_imatrix) of llama-cpp-python
 * 0.3.36. */
#ifndef LB_FORMAT_IMATRIX_H
#define LB_FORMAT_IMATRIX_H

#include "base/mem.h"
#include "format/gguf_meta.h"
#include "io/cur.h"
#include "tensor/source.h"

#define LB_IMATRIX_ENTRIES_MAX 262144        /* a model of 1T with every expert alone has 70,000 */
#define LB_IMATRIX_NAME_MAX 255              /* ggml's own names have at most 63 bytes */
#define LB_IMATRIX_COUNTS_MAX ((u64)4 << 20) /* of all entries: they are held in memory */
#define LB_IMATRIX_DATASET_MAX 65536         /* bytes of the legacy form's one */

typedef struct lb_imatrix_entry {
    lb_str name;        /* of a tensor, as GGUF calls it */
    u64 n_values;       /* n_mats x n_cols, matrix after matrix: expert, expert... */
    u64 n_mats, n_cols; /* as far as the file says: legacy and stacks with one count: 1, n_values */
    u64 n_counts;       /* 1: of all; or one a matrix */
    const float *counts; /* whole numbers from 0: tokens; legacy: chunks */
    u64 n_empty;         /* counts that are 0 */
    u64 off_bytes;       /* of the sums in the file, f32 */
} lb_imatrix_entry;

typedef struct lb_imatrix {
    bool legacy;
    bool has_chunks;             /* false: a legacy file that ends with its entries */
    u64 chunk_count, chunk_size; /* size in tokens; legacy: 0, not known */
    lb_str *datasets;            /* [n_datasets] as the tool was told them; any bytes but 0 */
    u64 n_datasets;
    lb_imatrix_entry *entries; /* sorted by name, bytewise; unique */
    u64 n_entries;
    u64 n_counts, n_empty; /* of all entries */
    u64 n_other;           /* tensors of the file that are neither sums nor counts */
    lb_str first_other;
} lb_imatrix;

/* Whether a file that begins with these bytes may be of the legacy form: a number of entries, the
 * length of a name and text. To be asked after the formats that have a magic number. */
bool lb_imatrix_probe(const u8 *head, size_t n);
/* Whether the pairs of a GGUF say that it is one. */
bool lb_imatrix_is(const lb_gguf_meta *m);

typedef struct lb_imatrix_dir {
    lb_imatrix im;
    lb_gguf_meta meta;  /* of GGUF */
    lb_tensor *tensors; /* the stored ranges, in file order; file is 0 */
    u64 n_tensors;
} lb_imatrix_dir;

/* Either form. perm gets names, counts and pairs, scratch the list of tensors. Memory is bounded by
 * a small multiple of the directory's bytes. Errors name c->path and the entry: LB_E_FORMAT,
 * LB_E_LIMIT, LB_E_UNSUPPORTED (of GGUF), LB_E_NOMEM, LB_E_IO. */
lb_status lb_imatrix_parse(lb_cur *c, lb_arena *perm, lb_arena *scratch, lb_imatrix_dir *out,
                           lb_err *err);
/* As a source of format LB_FORMAT_IMATRIX: its tensors and weights are the stored ranges,
 * s->imatrix is set; lb_source_close frees it. */
lb_status lb_imatrix_open(lb_source **out, const char *path, lb_err *err);

const lb_imatrix_entry *lb_imatrix_find(const lb_imatrix *im, lb_str name); /* NULL if absent */

/* Turns n sums as stored, from value `first` of the entry on, into importance, in place: sum /
 * count; 1 where a GGUF has no count for the matrix; the value as it stands where a legacy file has
 * none. LB_E_FORMAT names the first that is NaN, infinite or negative. */
lb_status lb_imatrix_values(const lb_imatrix *im, const lb_imatrix_entry *e, u64 first, u64 n,
                            float *values, lb_err *err);
/* Reads them first. Any thread; fds: of s->files. Of a matrix with n columns, first = matrix * n.
 */
lb_status lb_imatrix_read(const lb_source *s, lb_fds *fds, const lb_imatrix_entry *e, u64 first,
                          u64 n, float *out, lb_err *err);
/* The same without the counts: sums as they are stored, checked to be some. */
lb_status lb_imatrix_sums(const lb_source *s, lb_fds *fds, const lb_imatrix_entry *e, u64 first,
                          u64 n, float *out, lb_err *err);
/* All values of an entry, read once for what lb_imatrix_read would refuse. */
lb_status lb_imatrix_check(const lb_source *s, lb_fds *fds, const lb_imatrix_entry *e, lb_err *err);

/* ---- whether it belongs to a model ---- */

/* Columns x matrices (of a stack) of a tensor's shape: what an entry for it must have. */
bool lb_imatrix_fits(const lb_imatrix_entry *e, const lb_shape *shape);

typedef struct lb_imatrix_tensor { /* of the model, by its name in GGUF */
    lb_str name;
    lb_shape shape;
} lb_imatrix_tensor;

typedef struct lb_imatrix_match {
    u64 n_used; /* entries that are for a tensor of the model */
    u64 n_left; /* that are for an embedding or head that the model lacks or has in other sizes */
    lb_str first_left;
} lb_imatrix_match;

/* Refuses (LB_E_FORMAT, naming the tensor) the importance matrix of another model: an entry of a
 * size that its tensor has not; an entry that no tensor has the name of; a block of the model
 * without any entry, unless it is one of multi-token prediction, which llama.cpp does not run; no
 * entry of use. A single matrix without an entry is none of this: lb_imatrix_find tells. */
lb_status lb_imatrix_match_model(const lb_source *s, const lb_imatrix_tensor *tensors, u64 n,
                                 lb_imatrix_match *out, lb_err *err);

#endif
