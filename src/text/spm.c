/* SPDX-License-Identifier: Apache-2.0 */
/* spm.c: a bounded reader of the protobuf wire format, and the messages of tokenizer.model.
 *
 * Wire format (protobuf.dev/programming-guides/encoding): a field is a varint (number << 3 | type)
 * and a value: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes. 3 and 4 (groups) do not
 * occur. Every length is tested against what is left. */
#include "text/spm.h"

typedef struct wire {
    const u8 *ptr;
    size_t len, pos;
    size_t base; /* where ptr stands in the file */
    const char *what;
} wire;

typedef struct field {
    u32 number, type;
    u64 value;  /* types 0, 1, 5 */
    wire inner; /* type 2 */
} field;

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

static lb_status broken(const wire *w, const char *why, lb_err *err) {
    return lb_fail_at(err, LB_E_FORMAT, w->base + w->pos, "%s: not a SentencePiece model: %s",
                      w->what, why);
}

static lb_status varint(wire *w, u64 *out, lb_err *err) {
    u64 v = 0;
    for (u32 shift = 0; shift < 64; shift += 7) {
        if (w->pos == w->len)
            return broken(w, "it ends inside a number", err);
        u8 b = w->ptr[w->pos++];
        v |= (u64)(b & 0x7f) << shift;
        if (!(b & 0x80)) {
            *out = v;
            return LB_OK;
        }
    }
    return broken(w, "a number of more than ten bytes", err);
}

/* *more = false at the end of the message. */
static lb_status next_field(wire *w, field *f, bool *more, lb_err *err) {
    u64 tag, len;
    *more = w->pos < w->len;
    if (!*more)
        return LB_OK;
    LB_TRY(varint(w, &tag, err));
    if (tag >> 3 == 0 || tag >> 3 > 0x1fffffff)
        return broken(w, "a field without number", err);
    *f = (field){.number = (u32)(tag >> 3), .type = (u32)(tag & 7)};
    switch (f->type) {
    case VARINT:
        return varint(w, &f->value, err);
    case FIXED64:
    case FIXED32:
        len = f->type == FIXED64 ? 8 : 4;
        if (w->len - w->pos < len)
            return broken(w, "it ends inside a number", err);
        f->value = f->type == FIXED64 ? lb_load_u64(w->ptr + w->pos) : lb_load_u32(w->ptr + w->pos);
        w->pos += (size_t)len;
        return LB_OK;
    case BYTES:
        LB_TRY(varint(w, &len, err));
        if (len > w->len - w->pos)
            return broken(w, "a length beyond the end", err);
        f->inner = (wire){w->ptr + w->pos, (size_t)len, 0, w->base + w->pos, w->what};
        w->pos += (size_t)len;
        return LB_OK;
    default:
        return broken(w, "a field of unknown type", err);
    }
}

static lb_str text_of(const field *f) {
    return (lb_str){(const char *)f->inner.ptr, f->inner.len};
}

static lb_status read_piece(wire w, lb_spm_piece *p, lb_err *err) {
    field f;
    bool more;
    *p = (lb_spm_piece){.type = LB_SPM_NORMAL};
    for (;;) {
        LB_TRY(next_field(&w, &f, &more, err));
        if (!more)
            break;
        if (f.number == 1 && f.type == BYTES)
            p->text = text_of(&f);
        else if (f.number == 2 && f.type == FIXED32)
            p->score = lb_f32_from_bits((u32)f.value);
        else if (f.number == 3 && f.type == VARINT && f.value >= LB_SPM_NORMAL &&
                 f.value <= LB_SPM_BYTE)
            p->type = (lb_spm_type)f.value;
    }
    if (p->text.len == 0)
        return broken(&w, "a piece without text", err);
    if (!lb_str_is_utf8(p->text))
        return broken(&w, "a piece that is not valid UTF-8", err);
    return LB_OK;
}

static lb_status read_trainer(wire w, lb_spm *m, lb_err *err) {
    field f;
    bool more;
    for (;;) {
        LB_TRY(next_field(&w, &f, &more, err));
        if (!more)
            return LB_OK;
        if (f.type != VARINT)
            continue;
        switch (f.number) {
        case 3:
            if (f.value >= LB_SPM_UNIGRAM && f.value <= LB_SPM_CHAR)
                m->model = (lb_spm_model)f.value;
            break;
        case 24:
            m->treat_whitespace_as_suffix = f.value != 0;
            break;
        case 35:
            m->byte_fallback = f.value != 0;
            break;
        case 40:
            m->unk_id = (i32)(u32)f.value;
            break;
        case 41:
            m->bos_id = (i32)(u32)f.value;
            break;
        case 42:
            m->eos_id = (i32)(u32)f.value;
            break;
        case 43:
            m->pad_id = (i32)(u32)f.value;
            break;
        default:
            break;
        }
    }
}

static lb_status read_normalizer(wire w, lb_spm *m, lb_err *err) {
    field f;
    bool more;
    for (;;) {
        LB_TRY(next_field(&w, &f, &more, err));
        if (!more)
            return LB_OK;
        if (f.number == 2 && f.type == BYTES)
            m->precompiled_charsmap = text_of(&f);
        else if (f.number == 3 && f.type == VARINT)
            m->add_dummy_prefix = f.value != 0;
        else if (f.number == 4 && f.type == VARINT)
            m->remove_extra_whitespaces = f.value != 0;
        else if (f.number == 5 && f.type == VARINT)
            m->escape_whitespaces = f.value != 0;
    }
}

static lb_status count_pieces(wire w, u64 *n, lb_err *err) {
    field f;
    bool more;
    for (*n = 0;;) {
        LB_TRY(next_field(&w, &f, &more, err));
        if (!more)
            return LB_OK;
        *n += f.number == 1 && f.type == BYTES;
    }
}

lb_spm_type lb_spm_seen_type(const lb_spm *m, const lb_spm_piece *p) {
    if (m->byte_fallback && p->text.len == 1 && p->text.ptr[0] == 0)
        return LB_SPM_UNUSED;
    return p->type == LB_SPM_USER_DEFINED ? LB_SPM_NORMAL : p->type;
}

lb_status lb_spm_parse(lb_spm *out, lb_str bytes, const char *what, lb_arena *arena, lb_err *err) {
    wire w = {(const u8 *)bytes.ptr, bytes.len, 0, 0, what};
    field f;
    bool more;
    *out = (lb_spm){.model = LB_SPM_UNIGRAM,
                    .bos_id = 1,
                    .eos_id = 2,
                    .pad_id = -1,
                    .add_dummy_prefix = true,
                    .remove_extra_whitespaces = true,
                    .escape_whitespaces = true};
    u64 n, i = 0;
    bool has_trainer = false;
    LB_TRY(count_pieces(w, &n, err));
    if (n == 0)
        return broken(&w, "it has no pieces", err);
    out->pieces = lb_arena_new(arena, lb_spm_piece, n); /* a piece takes at least two bytes */
    if (!out->pieces)
        return lb_fail(err, LB_E_NOMEM, "%s: out of memory for %llu pieces", what,
                       (unsigned long long)n);
    out->n_pieces = n;
    for (;;) {
        LB_TRY(next_field(&w, &f, &more, err));
        if (!more) /* the pieces come first: one that was cut between two of them is shorter */
            return has_trainer ? LB_OK : broken(&w, "it ends before its trainer_spec", err);
        if (f.type != BYTES)
            continue;
        if (f.number == 1)
            LB_TRY(read_piece(f.inner, &out->pieces[i++], err));
        else if (f.number == 2)
            LB_TRY(read_trainer(f.inner, out, err));
        else if (f.number == 3)
            LB_TRY(read_normalizer(f.inner, out, err));
        has_trainer |= f.number == 2;
    }
}
