/* SPDX-License-Identifier: Apache-2.0 */
/* decode.c: see decode.h. */
#include "text/decode.h"

#include "text/bytelevel.h"
#include "text/decode_steps.h"

struct lb_decode_stream {
    const lb_encoder *e;
    lb_decode_run run;
    bool skip_special;
};

lb_status lb_decode_begin(lb_decode_stream **out, const lb_encoder *e, bool skip_special,
                          lb_err *err) {
    lb_decode_stream *d = *out = lb_alloc_zero(1, sizeof *d);
    if (!d)
        return lb_fail(err, LB_E_NOMEM, "out of memory for decoding");
    d->e = e;
    d->skip_special = skip_special;
    lb_decode_run_begin(&d->run, lb_encoder_decoder(e));
    return LB_OK;
}

lb_status lb_decode_put(lb_decode_stream *d, u32 id, lb_buf *out, lb_err *err) {
    lb_str text = lb_encoder_decoded(d->e, id);
    lb_buf valid = {0};
    lb_token_kind kind = lb_encoder_token(d->e, id, NULL);
    if (kind == LB_TOKEN_NONE || (kind == LB_TOKEN_CONTROL && d->skip_special))
        return LB_OK;
    if (lb_str_is_utf8(text))
        return lb_decode_run_put(&d->run, text, out, err);
    lb_utf8_put_lossy(&valid, text); /* a surrogate from an escape of JSON */
    lb_status st = lb_buf_status(&valid, err);
    if (st == LB_OK)
        st = lb_decode_run_put(&d->run, lb_buf_str(&valid), out, err);
    lb_buf_deinit(&valid);
    return st;
}

lb_status lb_decode_end(lb_decode_stream *d, lb_buf *out, lb_err *err) {
    return lb_decode_run_end(&d->run, out, err);
}

void lb_decode_close(lb_decode_stream **d) {
    if (*d)
        lb_decode_run_deinit(&(*d)->run);
    lb_free(*d);
    *d = NULL;
}

lb_status lb_decode_ids(const lb_encoder *e, const u32 *ids, u64 n, bool skip_special, lb_buf *out,
                        lb_err *err) {
    lb_decode_stream *d;
    lb_status st = lb_decode_begin(&d, e, skip_special, err);
    for (u64 i = 0; i < n && st == LB_OK; i++)
        st = lb_decode_put(d, ids[i], out, err);
    if (st == LB_OK)
        st = lb_decode_end(d, out, err);
    lb_decode_close(&d);
    return st;
}
