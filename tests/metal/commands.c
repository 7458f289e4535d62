/* SPDX-License-Identifier: Apache-2.0 */
/* commands.c: queues, command buffers, encoders, and when their work runs.
 *
 * Nothing runs before somebody waits. Then encoders run in the worst order that is allowed: buffers
 * are not tracked, so an encoder comes after another only by a fence or an event, and of those that
 * may run the last committed does; of a concurrent encoder the kernels between two barriers run
 * last to first. What is missing between two steps therefore shows in the result. */
#include "fake.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FENCES_MAX 4u
#define BYTES_MAX 4096ul
#define PENDING_MAX 256u

typedef struct bound {
    fake_buffer *buffer; /* NULL: bytes */
    unsigned long off;
    u8 *bytes;
    unsigned long n_bytes;
} bound;

typedef struct command {
    enum { DISPATCH, BARRIER, COPY, FILL } kind;
    fake_pipeline *pipeline;
    bound arg[FAKE_INDEX_MAX]; /* by index; of a copy 0 is from, 1 to, of a fill 1 */
    u32 groups[3], n_threads;
    size_t n_bytes;
    u8 value;
} command;

typedef struct encoder {
    fake_object head;
    struct command_buffer *owner; /* not held */
    bool blit, concurrent, open, done;
    fake_pipeline *pipeline;
    bound arg[FAKE_INDEX_MAX];
    command *commands;
    u32 n_commands;
    void *waits[FENCES_MAX], *updates[FENCES_MAX];
    u32 n_waits, n_updates;
} encoder;

typedef struct item {
    enum { ENCODER, SIGNAL, AWAIT } kind;
    encoder *encoder;
    fake_event *event;
    u64 value;
    bool done;
} item;

typedef struct command_buffer {
    fake_object head;
    void *queue;
    item *items;
    u32 n_items;
    unsigned long status;
    fake_object *error;
    double ended;
} command_buffer;

static command_buffer *pending[PENDING_MAX]; /* committed, in order */
static u32 n_pending, n_kernels;
static bool gone; /* a fault: nothing runs any more */

static const fake_class compute_class, blit_class, buffer_class;

static void *grow(void *list, u32 n, size_t bytes) {
    void *p = n % 16 ? list : realloc(list, (size_t)(n + 16) * bytes);
    if (!p)
        fake_die("out of memory");
    memset((u8 *)p + n * bytes, 0, bytes);
    return p;
}

static double now(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- what runs ---- */

static u8 *address(const bound *b) {
    if (!b->buffer)
        return b->bytes;
    fake_check(b->buffer, &fake_buffer_class, "a command's buffer");
    return b->buffer->at + b->off;
}

static void stop(command_buffer *cb, const char *text, long code) {
    if (!cb->error)
        cb->error = fake_retain(fake_error(text, code));
}

static void run_kernel(command_buffer *cb, const command *c) {
    const fake_pipeline *p = fake_check(c->pipeline, &fake_pipeline_class, "a command's pipeline");
    void *args[FAKE_INDEX_MAX] = {0};
    lb_err why = {0};
    if (++n_kernels == fake_number("STUB_METAL_LOST", 0)) {
        gone = true;
        stop(cb, "Caused GPU Address Fault Error (0000000b:kIOGPUCommandBufferCallbackError)", 3);
        return;
    }
    if (n_kernels == fake_number("STUB_METAL_FULL", 0)) {
        stop(cb, "Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)", 8);
        return;
    }
    for (u32 i = 0; i < p->kernel->n_bufs; i++) {
        const u32 at = p->kernel->arg[i].index;
        args[at] = address(&c->arg[at]);
    }
    if (!fake_run(p->library, p->kernel, args, c->groups, c->n_threads, &why))
        stop(cb, why.msg, 1);
}

static void run_command(command_buffer *cb, const command *c) {
    if (cb->error)
        return;
    if (c->kind == DISPATCH)
        run_kernel(cb, c);
    else if (c->kind == COPY)
        memmove(address(&c->arg[1]), address(&c->arg[0]), c->n_bytes);
    else if (c->kind == FILL)
        memset(address(&c->arg[1]), c->value, c->n_bytes);
}

/* Kernels between two barriers from the last to the first; blits, too: nothing says otherwise. */
static void run_encoder(command_buffer *cb, encoder *e) {
    for (u32 from = 0; from < e->n_commands;) {
        u32 to = from;
        while (to < e->n_commands && e->commands[to].kind != BARRIER)
            to++;
        for (u32 i = 0; i < to - from; i++)
            run_command(cb, &e->commands[e->concurrent || e->blit ? to - 1 - i : from + i]);
        from = to + 1;
    }
    e->done = true;
}

static bool has(void *const *list, u32 n, const void *fence) {
    for (u32 i = 0; i < n; i++)
        if (list[i] == fence)
            return true;
    return false;
}

/* Whether an encoder that is not done and comes before cb's item `at` updates one of its fences. */
static bool fenced(const encoder *e, u32 cb, u32 at) {
    for (u32 b = 0; b <= cb; b++)
        for (u32 i = 0; i < (b == cb ? at : pending[b]->n_items); i++) {
            const encoder *other = pending[b]->items[i].encoder;
            for (u32 f = 0; other && !other->done && f < e->n_waits; f++)
                if (has(other->updates, other->n_updates, e->waits[f]))
                    return true;
        }
    return false;
}

/* Whether an event has not come that the queue waits for before cb's item `at`. */
static bool awaits(u32 cb, u32 at) {
    for (u32 b = 0; b <= cb; b++)
        for (u32 i = 0; i < (b == cb ? at : pending[b]->n_items); i++) {
            const item *it = &pending[b]->items[i];
            if (pending[b]->queue == pending[cb]->queue && it->kind == AWAIT) {
                fake_check(it->event, &fake_event_class, "an event that is waited for");
                if (it->event->value < it->value)
                    return true;
            }
        }
    return false;
}

static bool run_one(void) {
    for (u32 b = n_pending; b-- > 0;)
        for (u32 i = pending[b]->n_items; i-- > 0;) {
            encoder *e = pending[b]->items[i].encoder;
            if (!e || e->done || fenced(e, b, i) || awaits(b, i))
                continue;
            if (gone)
                stop(pending[b], "Ignored (for causing prior/excessive GPU errors)", 4);
            run_encoder(pending[b], e);
            return true;
        }
    return false;
}

/* Signals whose command buffer has come to them; command buffers that are through. */
static bool settle(void) {
    bool any = false;
    for (u32 b = 0; b < n_pending; b++) {
        command_buffer *cb = pending[b];
        bool all = true;
        for (u32 i = 0; i < cb->n_items && all; i++) {
            item *it = &cb->items[i];
            if (it->kind == SIGNAL && !it->done) {
                fake_check(it->event, &fake_event_class, "an event that is signalled");
                it->event->value = it->value;
                it->done = any = true;
            }
            all = it->kind == ENCODER ? it->encoder->done
                  : it->kind == AWAIT ? !awaits(b, i + 1)
                                      : true;
        }
        if (!all)
            continue;
        cb->status = cb->error ? 5 : LB_MTL_STATUS_COMPLETED;
        cb->ended = now();
        memmove(pending + b, pending + b + 1, (--n_pending - b) * sizeof *pending);
        fake_release(cb);
        return true;
    }
    return any;
}

/* ---- encoders ---- */

static encoder *writing(void *self) {
    encoder *e = self;
    if (!e->open)
        fake_die("a command after endEncoding");
    return e;
}

static void destroy_encoder(fake_object *o) {
    encoder *e = (encoder *)o;
    if (e->open)
        fake_die("an encoder is released without endEncoding");
    for (u32 i = 0; i < e->n_commands; i++)
        for (u32 k = 0; k < FAKE_INDEX_MAX; k++)
            free(e->commands[i].arg[k].bytes);
    for (u32 k = 0; k < FAKE_INDEX_MAX; k++)
        free(e->arg[k].bytes);
    free(e->commands);
}

static command *add_command(encoder *e) {
    e->commands = grow(e->commands, e->n_commands, sizeof *e->commands);
    return &e->commands[e->n_commands++];
}

static void wait_fence(void *self, void *cmd, void *fence) {
    encoder *e = writing(self);
    (void)cmd;
    if (e->n_waits == FENCES_MAX || has(e->updates, e->n_updates, fence))
        fake_die("waitForFence: too many, or one that the encoder has updated");
    e->waits[e->n_waits++] = fake_check(fence, &fake_fence_class, "a fence");
}

static void update_fence(void *self, void *cmd, void *fence) {
    encoder *e = writing(self);
    (void)cmd;
    if (e->n_updates == FENCES_MAX)
        fake_die("updateFence: too many");
    e->updates[e->n_updates++] = fake_check(fence, &fake_fence_class, "a fence");
}

static void end(void *self, void *cmd) {
    (void)cmd;
    writing(self)->open = false;
}

static void set_pipeline(void *self, void *cmd, void *pipeline) {
    (void)cmd;
    writing(self)->pipeline = fake_check(pipeline, &fake_pipeline_class, "a pipeline");
}

static bound *binding(void *self, unsigned long i) {
    encoder *e = writing(self);
    if (i >= FAKE_INDEX_MAX)
        fake_die("index %lu: there are %u", i, FAKE_INDEX_MAX);
    free(e->arg[i].bytes);
    e->arg[i] = (bound){0};
    return &e->arg[i];
}

static void set_buffer(void *self, void *cmd, void *buffer, unsigned long off, unsigned long i) {
    fake_buffer *b = fake_check(buffer, &fake_buffer_class, "setBuffer:");
    (void)cmd;
    if (off >= b->bytes)
        fake_die("setBuffer: offset %lu of a buffer of %zu bytes", off, b->bytes);
    *binding(self, i) = (bound){.buffer = b, .off = off};
}

static void set_bytes(void *self, void *cmd, const void *bytes, unsigned long n, unsigned long i) {
    (void)cmd;
    if (n == 0 || n > BYTES_MAX)
        fake_die("setBytes: %lu bytes, it takes 1 to %lu", n, BYTES_MAX);
    bound *b = binding(self, i);
    b->bytes = calloc(1, n);
    if (!b->bytes)
        fake_die("out of memory");
    memcpy(b->bytes, bytes, n);
    b->n_bytes = n;
}

static void check_argument(const encoder *e, const fake_kernel *k, u32 i) {
    const u32 at = k->arg[i].index;
    const bound *b = &e->arg[at];
    if (!b->buffer && !b->bytes)
        fake_die("kernel %s: nothing is bound at index %u", k->name, at);
    if (k->arg[i].kind != FAKE_VALUE && !b->buffer)
        fake_die("kernel %s: bytes are bound at index %u, a buffer's", k->name, at);
    if (k->arg[i].kind == FAKE_VALUE &&
        (b->buffer ? b->buffer->bytes - b->off : b->n_bytes) < k->arg[i].bytes)
        fake_die("kernel %s: fewer bytes than the %llu of index %u", k->name,
                 (unsigned long long)k->arg[i].bytes, at);
    if (b->buffer && b->off % k->arg[i].bytes && k->arg[i].kind != FAKE_VALUE)
        fake_die("kernel %s: offset %lu of index %u is not aligned to %llu", k->name, b->off, at,
                 (unsigned long long)k->arg[i].bytes);
}

static void dispatch(void *self, void *cmd, lb_mtl_size groups, lb_mtl_size threads) {
    encoder *e = writing(self);
    const fake_pipeline *p = fake_check(e->pipeline, &fake_pipeline_class, "the pipeline");
    const unsigned long n = threads.width * threads.height * threads.depth;
    (void)cmd;
    if (n == 0 || n > fake_threads_max() || groups.width * groups.height * groups.depth == 0)
        fake_die("dispatchThreadgroups: %lu %lu %lu of %lu threads", groups.width, groups.height,
                 groups.depth, n);
    for (u32 i = 0; i < p->kernel->n_bufs; i++)
        check_argument(e, p->kernel, i);
    command *c = add_command(e);
    c->kind = DISPATCH;
    c->pipeline = e->pipeline;
    memcpy(c->arg, e->arg, sizeof c->arg);
    for (u32 i = 0; i < FAKE_INDEX_MAX; i++)
        if (c->arg[i].bytes) {
            c->arg[i].bytes = calloc(1, c->arg[i].n_bytes);
            if (!c->arg[i].bytes)
                fake_die("out of memory");
            memcpy(c->arg[i].bytes, e->arg[i].bytes, c->arg[i].n_bytes);
        }
    c->groups[0] = (u32)groups.width;
    c->groups[1] = (u32)groups.height;
    c->groups[2] = (u32)groups.depth;
    c->n_threads = (u32)n;
}

static void barrier(void *self, void *cmd, unsigned long scope) {
    (void)cmd;
    if (scope != LB_MTL_SCOPE_BUFFERS)
        fake_die("memoryBarrierWithScope: %lu", scope);
    add_command(writing(self))->kind = BARRIER;
}

static bound place(void *buffer, unsigned long off, unsigned long bytes) {
    fake_buffer *b = fake_check(buffer, &fake_buffer_class, "a blit's buffer");
    if (off % 4 || bytes % 4 || bytes == 0 || off > b->bytes || bytes > b->bytes - off)
        fake_die("a blit of %lu bytes at %lu of a buffer of %zu", bytes, off, b->bytes);
    return (bound){.buffer = b, .off = off};
}

LB_METHOD void copy(void *self, void *cmd, void *from, unsigned long from_off, void *to,
                    unsigned long to_off, unsigned long bytes) {
    command *c = add_command(writing(self));
    (void)cmd;
    c->kind = COPY;
    c->arg[0] = place(from, from_off, bytes);
    c->arg[1] = place(to, to_off, bytes);
    c->n_bytes = bytes;
}

static void fill(void *self, void *cmd, void *buffer, lb_mtl_range range, uint8_t value) {
    command *c = add_command(writing(self));
    (void)cmd;
    c->kind = FILL;
    c->arg[1] = place(buffer, range.at, range.bytes);
    c->n_bytes = range.bytes;
    c->value = value;
}

static const fake_method compute_methods[] = {
    FAKE_METHOD(wait_fence, wait_fence),
    FAKE_METHOD(update_fence, update_fence),
    FAKE_METHOD(end, end),
    FAKE_METHOD(set_pipeline, set_pipeline),
    FAKE_METHOD(set_buffer, set_buffer),
    FAKE_METHOD(set_bytes, set_bytes),
    FAKE_METHOD(dispatch, dispatch),
    FAKE_METHOD(barrier, barrier),
};
static const fake_class compute_class = {"MTLComputeCommandEncoder", compute_methods,
                                         LB_LEN(compute_methods), destroy_encoder};
static const fake_method blit_methods[] = {
    FAKE_METHOD(wait_fence, wait_fence),
    FAKE_METHOD(update_fence, update_fence),
    FAKE_METHOD(end, end),
    FAKE_METHOD(copy, copy),
    FAKE_METHOD(fill, fill),
};
static const fake_class blit_class = {"MTLBlitCommandEncoder", blit_methods, LB_LEN(blit_methods),
                                      destroy_encoder};

/* ---- command buffers ---- */

static void destroy_command_buffer(fake_object *o) {
    command_buffer *cb = (command_buffer *)o;
    for (u32 i = 0; i < cb->n_items; i++)
        if (cb->items[i].encoder)
            fake_release(cb->items[i].encoder);
    if (cb->error)
        fake_release(cb->error);
    free(cb->items);
}

static item *add_item(void *self) {
    command_buffer *cb = self;
    if (cb->status != 0)
        fake_die("a command buffer is written after its commit");
    if (cb->n_items && cb->items[cb->n_items - 1].encoder &&
        cb->items[cb->n_items - 1].encoder->open)
        fake_die("the command buffer's last encoder is still open");
    cb->items = grow(cb->items, cb->n_items, sizeof *cb->items);
    return &cb->items[cb->n_items++];
}

static void *add_encoder(void *self, const fake_class *isa) {
    item *it = add_item(self);
    encoder *e = fake_new(isa, sizeof *e);
    e->owner = self;
    e->open = true;
    it->encoder = e;
    return fake_autorelease(fake_retain(e));
}

static void *compute(void *self, void *cmd, unsigned long type) {
    encoder *e = add_encoder(self, &compute_class);
    (void)cmd;
    e->concurrent = type == LB_MTL_CONCURRENT;
    return e;
}

static void *blit(void *self, void *cmd) {
    encoder *e = add_encoder(self, &blit_class);
    (void)cmd;
    e->blit = true;
    return e;
}

static void signal(void *self, void *cmd, void *event, uint64_t value) {
    fake_event *ev = fake_check(event, &fake_event_class, "an event");
    (void)cmd;
    *add_item(self) = (item){.kind = SIGNAL, .event = ev, .value = value};
}

static void await(void *self, void *cmd, void *event, uint64_t value) {
    fake_event *ev = fake_check(event, &fake_event_class, "an event");
    (void)cmd;
    *add_item(self) = (item){.kind = AWAIT, .event = ev, .value = value};
}

static void commit(void *self, void *cmd) {
    command_buffer *cb = self;
    (void)cmd;
    if (cb->status != 0)
        fake_die("a command buffer is committed twice");
    if (cb->n_items && cb->items[cb->n_items - 1].encoder &&
        cb->items[cb->n_items - 1].encoder->open)
        fake_die("commit with an open encoder");
    if (n_pending == PENDING_MAX)
        fake_die("more than %u command buffers under way", PENDING_MAX);
    cb->status = 2;
    pending[n_pending++] = fake_retain(cb);
}

static void wait(void *self, void *cmd) {
    const command_buffer *cb = self;
    (void)cmd;
    if (cb->status < 2)
        fake_die("waitUntilCompleted of a command buffer that was not committed");
    while (cb->status < LB_MTL_STATUS_COMPLETED)
        if (!settle() && !run_one())
            fake_die("a command buffer waits for what does not come");
}

static unsigned long status(void *self, void *cmd) {
    (void)cmd;
    return ((command_buffer *)self)->status;
}

static void *error(void *self, void *cmd) {
    (void)cmd;
    return ((command_buffer *)self)->error;
}

static double ended(void *self, void *cmd) {
    (void)cmd;
    return ((command_buffer *)self)->ended;
}

static const fake_method buffer_methods[] = {
    FAKE_METHOD(compute, compute), FAKE_METHOD(blit, blit),     FAKE_METHOD(signal, signal),
    FAKE_METHOD(await, await),     FAKE_METHOD(commit, commit), FAKE_METHOD(wait, wait),
    FAKE_METHOD(status, status),   FAKE_METHOD(error, error),   FAKE_METHOD(ended, ended),
};
static const fake_class buffer_class = {"MTLCommandBuffer", buffer_methods, LB_LEN(buffer_methods),
                                        destroy_command_buffer};

/* ---- queues ---- */

static void *make_command_buffer(void *self, void *cmd) {
    command_buffer *cb = fake_new(&buffer_class, sizeof *cb);
    (void)cmd;
    cb->queue = self;
    return fake_autorelease(cb);
}

static void destroy_queue(fake_object *o) {
    for (u32 b = 0; b < n_pending; b++)
        if (pending[b]->queue == o)
            fake_die("a queue is released while its work is under way");
}

static const fake_method queue_methods[] = {FAKE_METHOD(command_buffer, make_command_buffer)};
static const fake_class queue_class = {"MTLCommandQueue", queue_methods, LB_LEN(queue_methods),
                                       destroy_queue};

void *fake_new_queue(void) {
    n_kernels = 0;
    gone = false;
    return fake_new(&queue_class, sizeof(fake_object));
}
