/* SPDX-License-Identifier: Apache-2.0 */
/* la_eigen.c: eigenvalues and vectors of symmetric matrices.
 *
 * To tridiagonal form from the last row upwards, so that each reflection's vector is a row of the
 * triangle; the update of one step and the product of the next go over the rows together, which
 * halves the traffic. */
#include "kernel/la.h"
#include <math.h>

size_t lb_la_tri_doubles(size_t n) {
    return 4 * n;
}

void lb_la_tri_place(lb_la_tri *t, size_t n, double *g, double *memory) {
    *t = (lb_la_tri){
        .n = n, .g = g, .d = memory, .e = memory + n, .tau = memory + 2 * n, .p = memory + 3 * n};
}

static double *row_of(const lb_la_tri *t, size_t i) {
    return t->g + i * (i + 1) / 2;
}

/* Makes the reflection that leaves of row i, columns 0..i-1, only the last. Its vector stays in the
 * row, the last element (1) too while the step lasts. */
static void reflect(const lb_kernels *k, lb_la_tri *t, size_t i) {
    double *v = row_of(t, i);
    const double alpha = v[i - 1], above = k->dot_f64(i - 1, v, v);
    t->d[i] = v[i];
    t->e[i] = alpha;
    t->tau[i] = 0;
    if (above > 0) {
        const double norm = sqrt(fma(alpha, alpha, above)), beta = alpha > 0 ? -norm : norm;
        const double scale = 1 / (alpha - beta);
        for (size_t j = 0; j + 1 < i; j++)
            v[j] *= scale;
        t->e[i] = beta;
        t->tau[i] = (beta - alpha) / beta;
    }
    v[i - 1] = 1;
}

/* Row j: minus v_j q + q_j v of the step before. */
static void update(const lb_kernels *k, double *row, size_t j, const double *v, const double *q) {
    k->axpy_f64(j + 1, row, -v[j], q);
    k->axpy_f64(j + 1, row, -q[j], v);
}

void lb_la_tridiagonalize(const lb_kernels *k, lb_la_tri *t) {
    const double *v =
        NULL; /* of the step before; its q is where the diagonal of later rows comes */
    double *q = t->d, *p = t->p;
    for (size_t i = t->n; i-- > 1;) {
        if (v)
            update(k, row_of(t, i), i, v, q);
        reflect(k, t, i); /* q[i] is not needed any more: the diagonal goes there */
        const double *x = row_of(t, i), tau = t->tau[i];
        memset(p, 0, i * sizeof *p);
        for (size_t j = 0; j < i; j++) {
            double *row = row_of(t, j);
            if (v)
                update(k, row, j, v, q);
            p[j] += k->dot_f64(j + 1, row, x);
            k->axpy_f64(j, p, x[j], row);
        }
        const double half = 0.5 * tau * tau * k->dot_f64(i, p, x);
        for (size_t j = 0; j < i; j++)
            q[j] = fma(tau, p[j], -half * x[j]);
        v = x;
    }
    if (v)
        update(k, row_of(t, 0), 0, v, q);
    t->d[0] = t->n ? row_of(t, 0)[0] : 0;
    t->e[0] = 0;
}

/* Vectors of the tridiagonal matrix to those of the matrix: some at a time while the reflections go
 * by. */
#define TOGETHER 16
static void turn_back(const lb_kernels *k, const lb_la_tri *t, size_t n_vectors, double *vectors) {
    const size_t n = t->n;
    for (size_t c = 0; c < n_vectors; c += TOGETHER)
        for (size_t i = 1; i < n; i++) {
            const double *v = row_of(t, i);
            for (size_t x = c; x < LB_MIN(c + TOGETHER, n_vectors) && t->tau[i] != 0; x++) {
                double *y = vectors + x * n;
                k->axpy_f64(i, y, -t->tau[i] * k->dot_f64(i, v, y), v);
            }
        }
}

/* ---- the largest ---- */

/* A bound on all eigenvalues' magnitudes. */
static double bound(const lb_la_tri *t) {
    double most = 0;
    for (size_t i = 0; i < t->n; i++) {
        const double next = i + 1 < t->n ? fabs(t->e[i + 1]) : 0;
        most = fmax(most, fabs(t->d[i]) + fabs(t->e[i]) + next);
    }
    return most;
}

/* Eigenvalues above x (Sturm's sequence); tiny: what stands for a zero. */
static size_t count_above(const lb_la_tri *t, double x, double tiny) {
    size_t n = 0;
    double q = 1;
    for (size_t i = 0; i < t->n; i++) {
        q = t->d[i] - x - (i ? t->e[i] * t->e[i] / q : 0);
        if (fabs(q) < tiny)
            q = -tiny;
        n += q > 0;
    }
    return n;
}

/* The rank-th largest (from 0). */
static double bisect(const lb_la_tri *t, size_t rank, double hi, double lo, double tiny) {
    while (hi - lo > 0x1p-52 * (fabs(lo) + fabs(hi)) + tiny) {
        const double mid = lo + (hi - lo) / 2;
        if (mid <= lo || mid >= hi)
            break;
        if (count_above(t, mid, tiny) > rank)
            lo = mid;
        else
            hi = mid;
    }
    return lo + (hi - lo) / 2;
}

/* x = (T - value)^-1 x, by elimination with exchanges of rows. work: [4 n]. */
static void solve(const lb_la_tri *t, double value, double tiny, double *x, double *work) {
    const size_t n = t->n;
    double *a = work, *b = work + n, *c = work + 2 * n; /* diagonal, first, second above it */
    double u = t->d[0] - value, v = n > 1 ? t->e[1] : 0;
    for (size_t i = 0; i + 1 < n; i++) {
        const double below = t->e[i + 1], next = i + 2 < n ? t->e[i + 2] : 0,
                     diagonal = t->d[i + 1] - value;
        if (fabs(below) > fabs(u)) { /* the next row comes first */
            const double f = u / below;
            a[i] = below, b[i] = diagonal, c[i] = next;
            u = fma(-f, diagonal, v);
            v = -f * next;
            const double y = x[i];
            x[i] = x[i + 1];
            x[i + 1] = fma(-f, x[i], y);
        } else {
            if (fabs(u) < tiny)
                u = u < 0 ? -tiny : tiny;
            const double f = below / u;
            a[i] = u, b[i] = v, c[i] = 0;
            u = fma(-f, v, diagonal);
            v = next;
            x[i + 1] = fma(-f, x[i], x[i + 1]);
        }
    }
    a[n - 1] = fabs(u) < tiny ? (u < 0 ? -tiny : tiny) : u;
    for (size_t i = n; i-- > 0;) {
        double s = x[i];
        if (i + 1 < n)
            s = fma(-b[i], x[i + 1], s);
        if (i + 2 < n)
            s = fma(-c[i], x[i + 2], s);
        x[i] = s / a[i];
    }
}

/* To length 1; without those that came before, twice. False: nothing is left. */
static bool clear(const lb_kernels *k, size_t n, const double *before, size_t n_before, double *x) {
    double most = 0;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, fabs(x[i]));
    if (!(most > 0) || most - most != 0)
        return false;
    for (size_t i = 0; i < n; i++)
        x[i] /= most;
    for (u32 again = 0; again < 2; again++) {
        const double was = k->dot_f64(n, x, x);
        for (size_t j = 0; j < n_before; j++)
            k->axpy_f64(n, x, -k->dot_f64(n, before + j * n, x), before + j * n);
        const double norm = sqrt(k->dot_f64(n, x, x));
        if (!(norm > 0x1p-40 * sqrt(was)))
            return false;
        for (size_t i = 0; i < n; i++)
            x[i] /= norm;
    }
    return true;
}

/* splitmix64, to [-1, 1). */
static double draw(u64 *state) {
    u64 z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return (double)(z >> 11) * 0x1p-52 - 1;
}

#define ITERATIONS 4

/* One vector, orthogonal to the n_before that stand before it. */
static void invert(const lb_kernels *k, const lb_la_tri *t, double value, double tiny,
                   size_t n_before, double *vectors, double *work, u64 *state) {
    const size_t n = t->n;
    double *x = vectors + n_before * n;
    bool ok = false;
    for (u32 attempt = 0; attempt < 8 && !ok; attempt++) {
        for (size_t i = 0; i < n; i++)
            x[i] = draw(state);
        ok = clear(k, n, vectors, n_before, x);
        for (u32 it = 0; it < ITERATIONS && ok; it++) {
            solve(t, value, tiny, x, work);
            ok = clear(k, n, vectors, n_before, x);
        }
    }
    if (!ok) /* never seen: a vector that adds nothing */
        memset(x, 0, n * sizeof *x);
}

void lb_la_eigen_top(const lb_kernels *k, const lb_la_tri *t, size_t n_top, double *values,
                     double *vectors, double *work) {
    const double most = bound(t), tiny = fmax(most * 0x1p-60, 0x1p-1000);
    u64 state = t->n;
    for (size_t i = 0; i < n_top; i++) {
        values[i] = bisect(t, i, i ? values[i - 1] : most, -most, tiny);
        invert(k, t, values[i], fmax(most * 0x1p-54, 0x1p-1000), i, vectors, work, &state);
    }
    turn_back(k, t, n_top, vectors);
}

/* ---- all ---- */

typedef struct rotations {
    const lb_kernels *k;
    size_t n; /* of the matrix */
    double *vectors, *list;
    size_t n_list;
} rotations;

#define STRETCH 64 /* columns of all vectors at a time: 2 MiB for 4096 */

/* Carries out what is listed. */
static void flush(rotations *r) {
    for (size_t c = 0; c < r->n; c += STRETCH) {
        const size_t len = LB_MIN(STRETCH, r->n - c);
        for (size_t i = 0; i < r->n_list; i++) {
            const double *x = r->list + 3 * i;
            double *low = r->vectors + (size_t)x[0] * r->n + c;
            r->k->rot_f64(len, low + r->n, low, x[1], x[2]);
        }
    }
    r->n_list = 0;
}

static void push(rotations *r, size_t i, double c, double s) {
    double *x = r->list + 3 * r->n_list++;
    x[0] = (double)i;
    x[1] = c;
    x[2] = s;
    if (r->n_list == LB_LA_QL_ROTATIONS)
        flush(r);
}

/* One implicit step of QL between l and m (J. H. Wilkinson, C. Reinsch, "Linear Algebra", II/4). */
static void step(rotations *r, double *d, double *e, size_t l, size_t m) {
    double g = (d[l + 1] - d[l]) / (2 * e[l]), root = sqrt(fma(g, g, 1)), s = 1, c = 1, p = 0;
    g = d[m] - d[l] + e[l] / (g + (g < 0 ? -root : root));
    for (size_t i = m; i-- > l;) {
        const double f = s * e[i], b = c * e[i];
        root = sqrt(fma(f, f, g * g));
        e[i + 1] = root;
        if (root == 0) {
            d[i + 1] -= p;
            e[m] = 0;
            return;
        }
        s = f / root;
        c = g / root;
        g = d[i + 1] - p;
        const double w = fma(d[i] - g, s, 2 * c * b);
        p = s * w;
        d[i + 1] = g + p;
        g = fma(c, w, -b);
        push(r, i, c, s);
    }
    d[l] -= p;
    e[l] = g;
    e[m] = 0;
}

#define STEPS_MAX 100

bool lb_la_eigen_all(const lb_kernels *k, lb_la_tri *t, double *vectors, double *work) {
    const size_t n = t->n;
    rotations r = {.k = k, .n = n, .vectors = vectors, .list = work};
    double *d = t->d, *e = t->e;
    const double tiny = 0x1p-60 * bound(t);
    memset(vectors, 0, n * n * sizeof *vectors);
    for (size_t i = 0; i < n; i++)
        vectors[i * n + i] = 1;
    for (size_t i = 1; i < n; i++) /* e[i]: between i and i + 1 */
        e[i - 1] = e[i];
    if (n)
        e[n - 1] = 0;
    for (size_t l = 0; l < n; l++)
        for (u32 steps = 0;; steps++) {
            size_t m = l;
            while (m + 1 < n && fabs(e[m]) > 0x1p-53 * (fabs(d[m]) + fabs(d[m + 1])) + tiny)
                m++;
            if (m == l)
                break;
            if (steps == STEPS_MAX)
                return false;
            step(&r, d, e, l, m);
        }
    flush(&r);
    turn_back(k, t, n, vectors);
    return true;
}
