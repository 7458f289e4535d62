/* SPDX-License-Identifier: Apache-2.0 */
/* source.h: an opened model: its files, stored tensors, weights and texts, whatever the format.
 *
 * Three levels:
 *   file    a path, checked size and identity. Bytes are read through lb_fds (at most 256 open).
 *   tensor  one named byte range of one file with a type and a shape: what the file's directory
 *           says, checked against the file's size, so that reading it needs no further check.
 *   weight  what the model means: one matrix (or vector) of values, stored in one tensor or in
 *           several (MLX: weight + scales + biases), with the encoding that decodes it.
 *
 * Shapes are row-major, slowest first, for every format: GGUF's reversed order ends at its reader.
 * Everything lives until lb_source_close. Read-only after opening: threads
 * share it. */
#ifndef LB_TENSOR_SOURCE_H
#define LB_TENSOR_SOURCE_H

#include "base/base.h"
#include "base/mem.h"
#include "base/names.h"
#include "io/cur.h"
#include "tensor/dtype.h"

#define LB_RANK_MAX 8
#define LB_PARTS_MAX 6
/* The one folder inside a model's folder that belongs to it: NAME.jinja for each named template. */
#define LB_CHAT_TEMPLATES_DIR "additional_chat_templates"

typedef struct lb_file {
    const char *path; /* NUL-terminated, as opened */
    lb_str name;      /* plain name inside the model's folder */
    u64 size_bytes, dev, ino;
    i64 mtime_ns;
} lb_file;

typedef struct lb_shape {
    u32 rank; /* 0: a scalar, one element */
    u64 dim[LB_RANK_MAX];
} lb_shape;

/* Rows and columns of a shape: rank 0 is 1 x 1, rank 1 is 1 x n. */
void lb_shape_matrix(const lb_shape *s, u64 *n_rows, u64 *n_cols);
/* Product of the dims; rank 0 gives 1. False if the dims that are not 0 overflow, so that the
 * product of any of them (rows, row length) can be formed without a check once this was true. */
bool LB_MUST_CHECK lb_shape_elems(const lb_shape *s, u64 *out);
bool lb_shape_eq(const lb_shape *a, const lb_shape *b);
/* "[2, 3]" into a buffer of at least LB_SHAPE_TEXT bytes. */
#define LB_SHAPE_TEXT 192
const char *lb_shape_text(const lb_shape *s, char *out);

/* How the elements of a tensor stand (torch and NumPy save views as they are). */
typedef enum lb_lies {
    LB_LIES_DENSE, /* one behind the other, in row-major order */
    /* Of the matrix that the shape folds to, of at least two rows and columns, the elements of a
     * row are neighbours and rows stand at equal distances; the range goes from the first element
     * to the last. */
    LB_LIES_LINES,
    LB_LIES_TURNED /* the same of the transposed matrix */
} lb_lies;

typedef struct lb_tensor {
    lb_str name;
    lb_dtype dtype;
    u8 lies;        /* lb_lies */
    lb_shape shape; /* in elements */
    u64 n_elems;
    u32 file;      /* index into lb_source.files */
    u64 off_bytes; /* absolute, in that file */
    u64 size_bytes;
} lb_tensor;

/* How the parts of a weight decode to values. */
typedef enum lb_enc_kind {
    /* part[0]: the dtype's own decoding (floats and GGUF blocks); INT: carried only. */
    LB_ENC_PLAIN,
    /* part: weight u32, scales, biases; bits 1,2,3,4,5,6,8; group 32, 64, 128. */
    LB_ENC_MLX_AFFINE,
    /* part: weight u32, scales u8 (E8M0), group 32. */
    LB_ENC_MLX_MXFP4,
    /* The same, E4M3 elements. */
    LB_ENC_MLX_MXFP8,
    /* part: weight u32, scales u8 (E4M3), group 16; optional part[2] global_scale f32. */
    LB_ENC_MLX_NVFP4,
    /* part: NVFP4 blocks, then one f32 `<name>.scale` that multiplies every value. */
    LB_ENC_GGUF_SCALED,
    /* part[0]: floats, LINES or TURNED. */
    LB_ENC_VIEW,

    /* Other tools' encodings (format/foreign*.c, plan/codec_foreign.c), from here on. A scale
     * stands for a block of block_rows x group_size values; 0: all rows of a matrix, all columns.
     */
    /* part: weight in 8-bit floats; scales (floats, or E8M0 as bytes). */
    LB_ENC_FP8,
    /* part: weight i8; scales; optional zero points i8. value = (code - zero) * scale */
    LB_ENC_INT8,
    /* part: codes of 1..8 bits in rows of i32 words, each 2^(bits-1) too large; scales; optional
     * zero points, packed the same way down the rows. Both kinds: if ordered, the last part is an
     * i32 for each column, the group that its zero point and scale are of. */
    LB_ENC_PACKED,
    /* part: E2M1 codes, two a byte, the lower half first; scales (E4M3, or E8M0 as bytes); optional
     * one f32 that multiplies the scales. */
    LB_ENC_FP4,
    /* The same; the one f32 divides the scales, and code 8 is -0 (there: 0). */
    LB_ENC_FP4_INVERSE,
    /* bitsandbytes. part: codes of lb_four_bit_nf4 or _fp4, two a byte, the upper half first; one
     * scale (f32) for each group_size values in row-major order, whatever rows they are of. Nested:
     * scales are u8, further parts are one f32 for each nested_size of them and 256 f32 that they
     * stand for; scale = map[code] * f32 + nested_offset. */
    LB_ENC_BNB_NF4,
    LB_ENC_BNB_FP4,
    /* part: weight i8; one f32 a row, 127 times too large. */
    LB_ENC_BNB_INT8,
    /* From here on the parts lie as the transposed matrix does, [columns, rows of words].
     * part: codes of 2, 3, 4, 8 bits down the columns in i32 words; scales of group_size columns;
     * zero points in i32 words along the rows; optional i32 that say which group a column is of. */
    LB_ENC_GPTQ,
    /* part: four-bit codes along the rows in i32 words, whose order is 0, 2, 4, 6, 1, 3, 5, 7;
     * scales; zero points in such words. */
    LB_ENC_AWQ
} lb_enc_kind;
#define LB_ENC_FOREIGN LB_ENC_FP8     /* the first of them */
#define LB_ENC_TRANSPOSED LB_ENC_GPTQ /* the first of these */

typedef struct lb_enc {
    lb_enc_kind kind;
    u32 bits, group_size; /* MLX and foreign kinds */
    /* foreign kinds: */
    u32 block_rows;
    lb_dtype rounded; /* the maker's values are rounded to this type; F32: they are not */
    bool less_one;    /* GPTQ: zero points are stored one less than they are */
    bool ordered;     /* INT8, PACKED */
    bool turned;      /* VIEW */
    u32 nested_size;  /* bitsandbytes; 0: not nested */
    float nested_offset;
} lb_enc;

typedef struct lb_weight {
    lb_str name;    /* of part[0], as stored ("model.layers.0.self_attn.q_proj.weight") */
    lb_shape shape; /* of the values, in elements */
    lb_enc enc;
    u32 n_parts;
    u32 part[LB_PARTS_MAX]; /* indices into lb_source.tensors */
} lb_weight;

typedef enum lb_format {
    LB_FORMAT_SAFETENSORS,
    LB_FORMAT_HF,
    LB_FORMAT_MLX,
    LB_FORMAT_GGUF,
    LB_FORMAT_PYTORCH, /* a file of torch.save; only read */
    LB_FORMAT_IMATRIX  /* no model: an importance matrix; only read */
} lb_format;
/* "safetensors", "hf", "mlx", "gguf", "pytorch", "imatrix" */
const char *lb_format_name(lb_format f);

/* A small file that travels with a folder: config.json, tokenizer.json, *.jinja... */
typedef struct lb_side_file {
    lb_str name;
    const char *path; /* NULL: it is made, and in no folder yet */
    lb_str bytes;     /* what is made */
    u64 size_bytes;
    bool provenance; /* says where the model comes from: --no-provenance leaves it out */
} lb_side_file;

struct lb_gguf_meta; /* format/gguf.h */
struct lb_imatrix;   /* format/imatrix.h */
struct lb_computed;  /* ops/computed.h */
struct lb_making;    /* plan/making.h */

typedef struct lb_source {
    lb_arena perm;
    lb_format format;
    lb_str label;     /* base name of the path, or hub id: what provenance and messages show */
    const char *path; /* as given */
    lb_file *files;
    u64 n_files;
    lb_tensor *tensors; /* heap; in file order: by file, then offset */
    u64 n_tensors, cap_tensors;
    lb_names tensor_by_name; /* use lb_source_tensor */
    lb_weight *weights;      /* heap; in the order of their first part */
    u64 n_weights, cap_weights;
    lb_names weight_by_name; /* use lb_source_weight */
    /* Folders only, sorted by name; weight files and the index are not in it. */
    lb_side_file *sides;
    u64 n_sides;
    const struct lb_gguf_meta *gguf;  /* GGUF (models and importance matrices): the pairs */
    const struct lb_imatrix *imatrix; /* IMATRIX only */
    /* A model that is computed (a merge...): what from, closed with it, and how (NULL: it is stored
     * in its files). Its own files, if any, say what to compute; no tensor lies in them. */
    struct lb_source **inputs;
    u32 n_inputs;
    const struct lb_computed *computed;
    /* Not NULL: its one file is made by the first run that reads it. */
    struct lb_making *making;
    int *made_fd;       /* of that file, which is closed with the source; -1: not made yet */
    lb_str config;      /* folders: bytes of config.json (may be empty: a folder without one) */
    lb_str st_metadata; /* safetensors: raw JSON object __metadata__ of the first file */
    lb_str notes;       /* what the reader decided or left aside, one line each; may be empty */
} lb_source;

const lb_tensor *lb_source_tensor(const lb_source *s, lb_str name);  /* NULL if absent */
const lb_weight *lb_source_weight(const lb_source *s, lb_str name);  /* NULL if absent */
const lb_side_file *lb_source_side(const lb_source *s, lb_str name); /* NULL if absent */
void lb_source_close(lb_source **s);

/* The bytes of a side file of at most max_bytes, in a or where they are; or a reader over them. */
lb_status lb_side_read(const lb_side_file *f, u64 max_bytes, lb_arena *a, lb_str *out, lb_err *err);
lb_status lb_side_open(lb_cur *c, const lb_side_file *f, lb_err *err);

/* Readers fill these; names are checked for duplicates, ranges against the file: see source.c.
 * A name handed in must live in s->perm. Growing a list moves it: keep indices, not pointers.
 * Tensors are added in file order. */
lb_source *lb_source_new(lb_format format, const char *path); /* NULL when out of memory */
lb_status lb_source_add_file(lb_source *s, const char *path, lb_str name, u32 *index, lb_err *err);
/* Elements from one line to the next, of LINES and TURNED. False: the range is of no such tensor.
 */
bool LB_MUST_CHECK lb_tensor_stride(const lb_tensor *t, u64 *out);
/* Checks type x shape (or the lines) against size_bytes and the range against the file; sets
 * n_elems; grows the list. */
lb_status lb_source_add_tensor(lb_source *s, const lb_tensor *t, lb_err *err);
lb_status lb_source_add_weight(lb_source *s, const lb_weight *w, lb_err *err);
/* Tensor i, or every tensor, as a weight of its own name, shape and type. */
lb_status lb_source_add_plain(lb_source *s, u64 i, lb_err *err);
lb_status lb_source_add_all_plain(lb_source *s, lb_err *err);
/* A tensor that lies in no file, because it is computed, and its weight. */
lb_status lb_source_add_computed(lb_source *s, lb_str name, lb_dtype dtype, const lb_shape *shape,
                                 lb_err *err);
void lb_source_trim(lb_source *s); /* when all is added: gives back the room for more */

/* ---- file descriptors: at most `max_open` at a time (256), opened on demand, thread-safe ---- */

typedef struct lb_fds lb_fds;
/* files must outlive it. Every open compares size, inode and mtime with what the plan saw: a file
 * that was changed meanwhile is LB_E_IO by name. */
lb_status lb_fds_new(lb_fds **out, const lb_file *files, u64 n_files, u32 max_open, lb_err *err);
/* Borrow: the descriptor stays open until given back. Waits where max_open are borrowed: a thread
 * that holds k descriptors while it asks for another needs max_open > k x threads. */
lb_status lb_fds_get(lb_fds *f, u64 file, int *fd, lb_err *err);
void lb_fds_put(lb_fds *f, u64 file);
void lb_fds_free(lb_fds **f);

#endif
