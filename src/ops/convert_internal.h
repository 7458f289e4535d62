/* SPDX-License-Identifier: Apache-2.0 */
/* convert_internal.h: shared by convert.c (what goes where), convert_gguf.c and convert_folder.c.
 */
#ifndef LB_OPS_CONVERT_INTERNAL_H
#define LB_OPS_CONVERT_INTERNAL_H

#include "arch/arch_config.h"
#include "ops/assemble.h"
#include "ops/convert.h"

/* convert_codes.c: forms of codes, and what was kept in them. */
typedef struct lb_conv_kept {
    lb_str stem; /* the module */
    u32 form;
} lb_conv_kept;
typedef struct lb_conv_codes {
    lb_conv_kept *list; /* heap */
    u64 n, cap;
    u64 n_of[LB_DTYPE_COUNT]; /* tensors, by the type that GGUF has for them */
    u64 n_near;               /* become values, and --codes near would have kept them */
    u32 symmetric;            /* bits of forms that the source's record says were so */
    bool affine;              /* some have scales in f16: values beside them are f16 too */
} lb_conv_codes;

typedef struct lb_conv {
    const lb_source *src;
    const lb_convert_opts *o;
    lb_plan *plan;
    lb_arena *perm; /* the plan's */
    lb_ctensors canon;
    lb_out_model model;
    u64 cap_tensors;
    lb_gguf_meta meta;    /* GGUF output */
    lb_conv_codes codes;  /* what the output holds as it was stored: metadata and config say so */
    lb_str chat_template; /* the text of --chat-template */
    u64 n_f16_sums;       /* tensors whose GGUF form is computed in f16 and cannot be turned back */
    struct lb_quantizer *quantizer; /* NULL: nothing is quantized */
    lb_buf *remarks;
} lb_conv;

void lb_conv_remark(lb_conv *c, const char *fmt, ...) LB_PRINTF(2, 3);
lb_status lb_conv_push(lb_conv *c, const lb_out_tensor *t, lb_err *err);
/* The weight that stored tensor i is by itself: the source's own where it is just that. NULL: out
 * of memory. */
const lb_weight *lb_conv_weight_of(lb_conv *c, u64 i);
/* A shape that outlives the plan: that of the weight that t is of or of a tensor pushed before,
 * where they are alike. */
lb_status lb_conv_shape(lb_conv *c, const lb_ctensor *t, const lb_shape *shape,
                        const lb_shape **out, lb_err *err);

/* ---- parts that a model works without: convert_extras.c ---- */

/* Decides which of them go into a target, once the tensors are listed: sets left_extras and
 * text_only. LB_E_UNSUPPORTED: the user wants one that it has no place for. */
lb_status lb_conv_choose_extras(lb_conv *c, lb_world to, lb_err *err);
/* For copies of stored tensors: lists the tensors and chooses, if the user has any part dropped. */
lb_status lb_conv_drop_extras(lb_conv *c, lb_err *err);
/* The part of every stored tensor, in the arena; says what is left out of a copy. */
lb_status lb_conv_extras_of(lb_conv *c, u8 **out, lb_err *err);
/* Says what of an assembly was left out: parts by their sizes, others by name, with `why`.
 * LB_E_UNSUPPORTED: a tensor of a part that the user wants has no place. */
lb_status lb_conv_say_left_out(lb_conv *c, const lb_assembly *a, const char *why, lb_err *err);
/* config.json of the model without the layers that the user has dropped; the text as it is where
 * there is nothing to change. */
lb_status lb_conv_config_without(lb_conv *c, lb_str *config, lb_err *err);

/* The source's stored tensors as they are: same format in and out. */
lb_status lb_conv_same_tensors(lb_conv *c, lb_err *err);
lb_status lb_conv_to_gguf(lb_conv *c, lb_err *err); /* from HF or MLX */
lb_status lb_conv_gguf_to_gguf(lb_conv *c, lb_err *err);
lb_status lb_conv_to_folder(lb_conv *c, lb_err *err); /* HF or MLX, from anything */
/* --set, --unset, --chat-template: of a GGUF; of a folder whose texts are pushed. */
lb_status lb_conv_edit_meta(lb_conv *c, lb_err *err);
/* "KEY=TYPE:VALUE" into c->meta. */
lb_status lb_conv_set_key(lb_conv *c, const char *text, lb_err *err);
lb_status lb_conv_edit_template(lb_conv *c, lb_err *err);

/* An adapter that changes its form (convert_adapter.c). */
bool lb_conv_is_adapter(const lb_conv *c);
lb_status lb_conv_adapter(lb_conv *c, lb_err *err);

/* ---- codes that are kept (convert_codes.c) ---- */

/* Whether the tensor's codes are kept, and in which of the target's forms. */
bool lb_conv_keeps_codes(const lb_conv *c, const lb_assembly *a, const lb_made_of *m, u32 *form);
/* For a tensor whose codes are not kept; and what is said of all of them. */
void lb_conv_note_values(lb_conv *c, const lb_assembly *a, const lb_made_of *m);
void lb_conv_say_values(lb_conv *c);
/* MLX: words of codes, scales, biases. */
lb_status lb_conv_push_codes(lb_conv *c, const lb_assembly *a, const lb_made_of *m, u32 form,
                             lb_err *err);
/* GGUF: the form's blocks. */
lb_repack lb_conv_codes_block(const lb_conv *c, u32 form);
void lb_conv_count_codes(lb_conv *c, lb_dtype t);
/* general.file_type of a file of codes; UINT32_MAX: it has none. */
u32 lb_conv_codes_file_type(const lb_conv *c);
/* "quantization" of MLX's config; *out NULL: no codes. And the record for the way back. */
lb_status lb_conv_codes_config(lb_conv *c, lb_json **out, lb_err *err);
lb_status lb_conv_codes_record(lb_conv *c, lb_err *err);
/* What the source says of its codes; and, when its tensors are known, whether any are kept whose
 * scales are f16: mlx multiplies in one type, so that what is no code goes to f16 as well. */
void lb_conv_codes_begin(lb_conv *c);
void lb_conv_codes_choose(lb_conv *c, const lb_assembly *a);

/* A file of a folder; one of the same name is replaced. The buffer is freed. */
lb_status lb_conv_push_text(lb_conv *c, lb_sink_text t, lb_err *err);
lb_status lb_conv_push_buf(lb_conv *c, const char *name, lb_buf *b, lb_err *err);
lb_sink_text lb_conv_side_text(const lb_side_file *f); /* as it is */
/* README.md of the source, or the card of one that is computed, which is none under
 * --no-provenance. Empty: there is none. */
lb_status lb_conv_card(lb_conv *c, lb_str *out, lb_err *err);

#endif
