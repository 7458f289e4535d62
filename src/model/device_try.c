/* SPDX-License-Identifier: Apache-2.0 */
/* device_try.c: kernels of a session's prompts before they are used first. A program looks at those
 * of one token before it begins; what a prompt takes (tiles of f16, tensor cores' attention, delta
 * nets in chunks) is compiled when a prompt comes, and one that does not compile, is not launched
 * or is wrong is no reason to stop: others do the same. So that nothing of a batch is computed
 * twice, which states of recurrent layers would not bear, its launches are recorded first and
 * dropped, which says what they are; each is tested once on every device (selftest.h). That costs
 * the host a walk over the layers for each kind of batch. */
#include "base/mem.h"
#include "device/selftest.h"
#include "model/device_layers.h"
#include "model/device_parts.h"
#include <stdio.h>

/* ---- kinds of batches ---- */

/* Which of a device's kernels n tokens take: one bit for each border. */
static u32 borders(const lb_context *c, u32 n) {
    const lb_dev_tuning *t = &lb_dev_info_get(c->device->r->d)->tuning;
    const u32 from[] = {LB_DEV_FEW_TOKENS + 1, t->mm_small, t->mm_middle,   t->mm_large,
                        t->mm_experts,         t->gemm,     t->gemm_experts};
    u32 bits = 0;
    for (u32 i = 0; i < LB_LEN(from); i++)
        bits |= (u32)(from[i] && n >= from[i]) << i;
    return bits;
}

#define BITS 7u

static u32 kind_of(const lb_context *c) {
    const lb_dcontext *d = c->device;
    const u32 head = LB_MIN(d->n_logits, d->n_want), rest = d->n_want % d->n_logits;
    const u32 all = borders(c, c->n) | borders(c, head) << BITS | borders(c, rest) << 2 * BITS;
    return all | (u32)d->temp << 3 * BITS | (u32)(d->n_runs > 1) << (3 * BITS + 1) |
           (u32)(d->longest >= LB_DDELTA_TOKENS) << (3 * BITS + 2);
}

static bool was_tried(lb_dcontext *d, u32 kind) {
    for (u32 i = 0; i < LB_MIN(d->n_tried, LB_DTRIED); i++)
        if (d->tried[i] == kind)
            return true;
    return false;
}

/* ---- kernels ---- */

/* What fails, for one warning: names of kernels, and why the first one does. */
typedef struct failures {
    char names[128]; /* but the first one's */
    bool named[LB_DEV_KERNEL_COUNT];
    u32 n;
    const char *device;
    lb_err why;
} failures;

static bool note(void *user, const lb_dev *d, lb_dev_kernel k, const lb_err *why) {
    failures *f = user;
    const size_t at = strlen(f->names);
    if (!f->n++) {
        f->why = *why;
        f->device = lb_dev_info_get(d)->id;
    } else if (!f->named[k]) {
        (void)snprintf(f->names + at, sizeof f->names - at, ", %s", lb_dev_kernel_name(k));
    }
    f->named[k] = true;
    return true;
}

static void warn(const lb_context *c, const failures *f) {
    char text[LB_ERR_MSG_MAX];
    const bool more = f->names[0];
    (void)snprintf(text, sizeof text, "%s: %.700s%s%s; others do its work", f->device, f->why.msg,
                   more ? "; so do" : "", more ? f->names + 1 : "");
    c->o.warn(c->o.warn_user, text);
}

bool lb_device_may(const lb_context *c, const lb_dcontext *d, const lb_dev_kernel *k, u32 n) {
    failures f = {0};
    const lb_dev_proving p = {.list = k, .n = n, .wrong = note, .user = &f};
    bool has = true;
    for (const lb_dcontext *at = d ? d : c->parts; at; at = d ? NULL : at->next) {
        if (c->o.warn) /* a device that is lost says so when it is used */
            (void)lb_dev_prove_all(at->r->d, &p, NULL);
        for (u32 i = 0; i < n; i++)
            has &= lb_dev_has(at->r->d, k[i]);
    }
    if (f.n)
        warn(c, &f);
    return has;
}

/* Of all parts: the kernels that would be launched count as launched (device.h). */
static lb_status walk(lb_context *c, lb_err *err) {
    lb_dcontext *const before = c->device;
    lb_status st = LB_OK;
    for (lb_dcontext *d = c->parts; d && st == LB_OK; d = d->next) {
        c->device = d;
        st = lb_dev_graph_begin(d->r->q, err);
        if (st == LB_OK)
            st = lb_device_launches(c, err);
        lb_dev_graph_cancel(d->r->q);
    }
    c->device = before;
    return st;
}

/* Until all that would be launched is right; each turn leaves out a kernel at least. */
static lb_status try_all(lb_context *c, failures *f, lb_err *err) {
    const lb_dev_proving p = {.wrong = note, .user = f};
    for (u32 n = f->n + 1; n != f->n;) {
        n = f->n;
        LB_TRY(walk(c, err));
        for (const lb_dcontext *d = c->parts; d; d = d->next)
            LB_TRY(lb_dev_prove_all(d->r->d, &p, err));
    }
    return LB_OK;
}

lb_status lb_device_try(lb_context *c, lb_err *err) {
    lb_dcontext *d = c->parts;
    failures f = {0};
    if (!c->o.warn || lb_dfew(c->n) || lb_resident_device(d->r)->kind == LB_DEV_CPU)
        return LB_OK;
    const u32 kind = kind_of(c);
    if (was_tried(d, kind))
        return LB_OK;
    const lb_status st = try_all(c, &f, err);
    if (f.n)
        warn(c, &f);
    if (st == LB_OK)
        d->tried[d->n_tried++ % LB_DTRIED] = kind;
    return st;
}
