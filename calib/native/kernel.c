/* Audio to mel statistics in one pass over the samples, a few frames at a time; and, at the end, the moments of pairs.
 *
 * The steps are those of calib/mel/analysis.py and calib/mel/statistics.py: pad, window, real FFT in float64,
 * magnitude or power, mel filterbank, guard, logarithm, map, clip; then float64 sums, extremes, floor counts and a
 * histogram of width 1/256. The spectrum is float64 up to the power and float32 after it, as there: float32 would let
 * the loudest bin's rounding reach the quietest.
 *
 * A vector holds one value of LANES neighbouring frames ("structure of arrays"). So every step is the scalar algorithm,
 * written once with the compilers' vector extension; no frame ever meets another one, and a frame's mel does not depend
 * on its neighbours. The file is compiled once for every instruction set (calib/native/compile.py), with the vector
 * width of each.
 *
 * The FFT: x[2n] + i x[2n+1] makes N real samples N/2 complex ones; decimation in frequency, in place, radices 8 5 4 3 2;
 * outputs stay in digit-reversed order (`slot` says where); after the first pass each sub-transform stays in the first
 * level cache. References: Cooley and Tukey, Math. Comp. 19 (1965); Van Loan, "Computational Frameworks for the FFT".
 *
 * C11, GCC or Clang, no library but libm. Nothing here allocates after plan_new; a plan serves one thread at a time.
 */

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef LANES
#if defined(__AVX512F__)
#define LANES 8
#elif defined(__AVX__)
#define LANES 4
#else
#define LANES 2
#endif
#endif

#ifndef SOURCE_DIGEST
#define SOURCE_DIGEST "unknown"
#endif

#define API __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))

typedef double vd __attribute__((vector_size(8 * LANES)));
typedef float vf __attribute__((vector_size(4 * LANES)));
typedef int32_t vi __attribute__((vector_size(4 * LANES)));
typedef double vd_any __attribute__((vector_size(8 * LANES), aligned(8)));
typedef float vf_any __attribute__((vector_size(4 * LANES), aligned(4)));

enum { DONE = 0, NOT_HERE = 1 }; /* what calib_measure returns; the caller's own path says what is wrong */
enum { INT16 = 0, FLOAT32 = 1, FLOAT64 = 2 };
enum { LOG_NONE = 0, LOG_LN = 1 };
enum { GUARD_NONE = 0, GUARD_CLAMP = 1, GUARD_ADD = 2 };
enum { EPS_NONE = 0, EPS_ADD = 1, EPS_CLAMP = 2 };
enum { MOST_PASSES = 24, TABLES = 2, KEYS = 1 << 18, KEY_ZERO = KEYS / 2, MOST_BINS = 1 << 16 };

/* The parameters of a front end, as calib/native/mel.py fills them in. */
typedef struct {
    int32_t n_fft, hop, n_mels, inner, pad_audio, reflect, power, eps_mode, log, guard, affine, has_mean, has_std;
    int32_t has_low, has_high, overwrite, has_floor, reserved;
    float eps, log_eps, log_scale, post_scale, post_offset, clip_low, clip_high, overwrite_value, floor;
} settings;

typedef struct {
    settings s;
    int half, n_pass, radix[MOST_PASSES], gap; /* gap: complex slots between the blocks of the first pass */
    int first, last;                           /* samples of a frame that the window does not make zero: [first, last) */
    double *twiddle[MOST_PASSES];              /* (re, im) of exp(-2 pi i j p / length), p = 1 .. radix - 1, by j */
    double *window, *turn;                     /* half the window; (cos, sin) of 2 pi k / n_fft */
    int32_t *slot;                             /* where bin k of the complex transform lies */
    int32_t *low, *high;                       /* bins [low, high) of a filter */
    float *weights, *mean, *std;
    double *signal; /* the samples of LANES frames */
    vd *work;
    vf *spectrum;
    vd *s1, *s2;
    vf *lowest, *highest;
    vi *at_lowest, *at_floor;
    uint32_t *histogram; /* KEYS times TABLES: neighbouring lanes count in different tables */
} plan;

/* ------------------------------------------------------------------------------------------------ transforms */

typedef struct {
    vd re, im;
} cv;

INLINE cv add(cv a, cv b) { return (cv){a.re + b.re, a.im + b.im}; }
INLINE cv sub(cv a, cv b) { return (cv){a.re - b.re, a.im - b.im}; }
INLINE cv times_minus_i(cv a) { return (cv){a.im, -a.re}; }
INLINE cv load(const vd *x, int at) { return (cv){x[2 * at], x[2 * at + 1]}; }
INLINE void store(vd *x, int at, cv a) {
    x[2 * at] = a.re;
    x[2 * at + 1] = a.im;
}
INLINE cv turned(cv a, const double *w) { return (cv){a.re * w[0] - a.im * w[1], a.re * w[1] + a.im * w[0]}; }

INLINE void dft4(cv *a) {
    cv t0 = add(a[0], a[2]), t1 = sub(a[0], a[2]), t2 = add(a[1], a[3]), t3 = times_minus_i(sub(a[1], a[3]));
    a[0] = add(t0, t2);
    a[1] = add(t1, t3);
    a[2] = sub(t0, t2);
    a[3] = sub(t1, t3);
}

INLINE void dft8(cv *a) {
    const double r = 0.70710678118654752440;
    cv even[4], odd[4];
    for (int q = 0; q < 4; q++) {
        even[q] = add(a[q], a[q + 4]);
        odd[q] = sub(a[q], a[q + 4]);
    }
    odd[1] = (cv){(odd[1].re + odd[1].im) * r, (odd[1].im - odd[1].re) * r};
    odd[2] = times_minus_i(odd[2]);
    odd[3] = (cv){(odd[3].im - odd[3].re) * r, (odd[3].re + odd[3].im) * -r};
    dft4(even);
    dft4(odd);
    for (int q = 0; q < 4; q++) {
        a[2 * q] = even[q];
        a[2 * q + 1] = odd[q];
    }
}

INLINE void dft3(cv *a) {
    const double h = 0.86602540378443864676;
    cv t = add(a[1], a[2]), d = sub(a[1], a[2]), m = {a[0].re - t.re * 0.5, a[0].im - t.im * 0.5};
    a[0] = add(a[0], t);
    a[1] = (cv){m.re + d.im * h, m.im - d.re * h};
    a[2] = (cv){m.re - d.im * h, m.im + d.re * h};
}

INLINE void dft5(cv *a) {
    const double c1 = 0.30901699437494742410, c2 = -0.80901699437494742410;
    const double s1 = 0.95105651629515357212, s2 = 0.58778525229247312917;
    cv t1 = add(a[1], a[4]), t2 = add(a[2], a[3]), d1 = sub(a[1], a[4]), d2 = sub(a[2], a[3]);
    cv m1 = {a[0].re + t1.re * c1 + t2.re * c2, a[0].im + t1.im * c1 + t2.im * c2};
    cv m2 = {a[0].re + t1.re * c2 + t2.re * c1, a[0].im + t1.im * c2 + t2.im * c1};
    cv n1 = {d1.re * s1 + d2.re * s2, d1.im * s1 + d2.im * s2}, n2 = {d1.re * s2 - d2.re * s1, d1.im * s2 - d2.im * s1};
    a[0] = add(a[0], add(t1, t2));
    a[1] = add(m1, times_minus_i(n1));
    a[4] = sub(m1, times_minus_i(n1));
    a[2] = add(m2, times_minus_i(n2));
    a[3] = sub(m2, times_minus_i(n2));
}

/* One pass over one block: `count` butterflies of radix r whose inputs lie `stride` apart. */
#define PASS(R, DFT)                                                                                                   \
    static void pass##R(vd *x, int count, int stride, const double *w) {                                               \
        for (int j = 0; j < count; j++, w += 2 * (R - 1)) {                                                            \
            cv a[R];                                                                                                   \
            for (int q = 0; q < R; q++) a[q] = load(x, j + q * stride);                                                \
            DFT;                                                                                                       \
            store(x, j, a[0]);                                                                                         \
            for (int q = 1; q < R; q++) store(x, j + q * stride, turned(a[q], w + 2 * (q - 1)));                       \
        }                                                                                                              \
    }                                                                                                                  \
    /* The last pass, of length R: no twiddles; `count` blocks that lie behind each other. */                          \
    static void last##R(vd *x, int count) {                                                                            \
        for (int j = 0; j < count; j++, x += 2 * R) {                                                                  \
            cv a[R];                                                                                                   \
            for (int q = 0; q < R; q++) a[q] = load(x, q);                                                             \
            DFT;                                                                                                       \
            for (int q = 0; q < R; q++) store(x, q, a[q]);                                                             \
        }                                                                                                              \
    }

#define DFT2                                                                                                           \
    do {                                                                                                               \
        cv t = sub(a[0], a[1]);                                                                                        \
        a[0] = add(a[0], a[1]);                                                                                        \
        a[1] = t;                                                                                                      \
    } while (0)

PASS(2, DFT2)
PASS(3, dft3(a))
PASS(4, dft4(a))
PASS(5, dft5(a))
PASS(8, dft8(a))

static void last_pass(int radix, vd *x, int count) {
    switch (radix) {
    case 2: last2(x, count); break;
    case 3: last3(x, count); break;
    case 4: last4(x, count); break;
    case 5: last5(x, count); break;
    default: last8(x, count);
    }
}

/* The transform of a block of `length`, from pass `level` on, in place. */
static void transform(const plan *p, int level, vd *x, int length) {
    int radix = p->radix[level], inside = length / radix, stride = inside + (level ? 0 : p->gap);
    const double *w = p->twiddle[level];
    if (inside == 1) {
        last_pass(radix, x, 1);
        return;
    }
    switch (radix) {
    case 2: pass2(x, inside, stride, w); break;
    case 3: pass3(x, inside, stride, w); break;
    case 4: pass4(x, inside, stride, w); break;
    case 5: pass5(x, inside, stride, w); break;
    default: pass8(x, inside, stride, w);
    }
    if (level + 2 == p->n_pass && stride == inside)
        last_pass(p->radix[level + 1], x, radix);
    else
        for (int q = 0; q < radix; q++) transform(p, level + 1, x + 2 * q * stride, inside);
}

/* ------------------------------------------------------------------------------------------------ samples in */

#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int64_t vl __attribute__((vector_size(8 * LANES)));
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (vl){__VA_ARGS__})
#endif

/* LANES rows of LANES consecutive samples become LANES vectors of one sample each. */
INLINE void transpose(vd *r) {
#if LANES == 8
    vd t[8], u[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = SHUFFLE(r[i], r[i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
        t[i + 1] = SHUFFLE(r[i], r[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
    }
    for (int i = 0; i < 8; i += 4)
        for (int k = 0; k < 2; k++) {
            u[i + k] = SHUFFLE(t[i + k], t[i + k + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            u[i + k + 2] = SHUFFLE(t[i + k], t[i + k + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int k = 0; k < 4; k++) {
        r[k] = SHUFFLE(u[k], u[k + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        r[k + 4] = SHUFFLE(u[k], u[k + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
#elif LANES == 4
    vd t0 = SHUFFLE(r[0], r[1], 0, 4, 2, 6), t1 = SHUFFLE(r[0], r[1], 1, 5, 3, 7);
    vd t2 = SHUFFLE(r[2], r[3], 0, 4, 2, 6), t3 = SHUFFLE(r[2], r[3], 1, 5, 3, 7);
    r[0] = SHUFFLE(t0, t2, 0, 1, 4, 5);
    r[1] = SHUFFLE(t1, t3, 0, 1, 4, 5);
    r[2] = SHUFFLE(t0, t2, 2, 3, 6, 7);
    r[3] = SHUFFLE(t1, t3, 2, 3, 6, 7);
#else
    vd t = SHUFFLE(r[0], r[1], 0, 2);
    r[1] = SHUFFLE(r[0], r[1], 1, 3);
    r[0] = t;
#endif
}

INLINE double sample(const void *samples, int kind, int64_t at) {
    if (kind == INT16) return ((const int16_t *)samples)[at] * (1.0 / 32768.0);
    return kind == FLOAT32 ? ((const float *)samples)[at] : ((const double *)samples)[at];
}

/* Sample `at` of the padded signal that lies outside the audio: zeros beside it, then a mirror (or zeros) around both. */
static double outside(const settings *s, const void *samples, int kind, int64_t length, int64_t at) {
    int64_t whole = length + 2 * (int64_t)s->pad_audio, j = at - s->inner;
    if (s->reflect) j = j < 0 ? -j : j >= whole ? 2 * (whole - 1) - j : j;
    j -= s->pad_audio;
    return j < 0 || j >= length ? 0.0 : sample(samples, kind, j);
}

/* `count` samples from index `from` of the padded signal on, as float64. */
static void fetch(const settings *s, const void *samples, int kind, int64_t length, int64_t from, int64_t count, double *out) {
    int64_t at = from - s->inner - s->pad_audio; /* out[i] is sample at + i of the audio, from `begin` to `end` */
    int64_t begin = at < 0 ? (-at < count ? -at : count) : 0, end = length - at < count ? length - at : count;
    if (end < begin) end = begin;
    for (int64_t i = 0; i < begin; i++) out[i] = outside(s, samples, kind, length, from + i);
    if (kind == INT16)
        for (int64_t i = begin; i < end; i++) out[i] = sample(samples, INT16, at + i);
    else if (kind == FLOAT32)
        for (int64_t i = begin; i < end; i++) out[i] = sample(samples, FLOAT32, at + i);
    else
        for (int64_t i = begin; i < end; i++) out[i] = sample(samples, FLOAT64, at + i);
    for (int64_t i = end; i < count; i++) out[i] = outside(s, samples, kind, length, from + i);
}

/* Windowed frames, a sample of LANES frames in each vector, in the order the first pass wants. */
static void frames_in(const plan *p, vd *work) {
    int block = 2 * p->half / p->radix[0], hop = p->s.hop; /* real samples between two gaps */
    if (!p->gap) block = p->s.n_fft + LANES;
    for (int from = 0, shift = 0; from < p->s.n_fft; from += block, shift += 2 * p->gap) {
        int to = from + block < p->s.n_fft ? from + block : p->s.n_fft;
        for (int n = from; n < to; n += LANES) {
            vd *out = work + n + shift;
            if (n < p->first || n >= p->last) {
                for (int i = 0; i < LANES; i++) out[i] = (vd){0};
                continue;
            }
            vd rows[LANES];
            for (int i = 0; i < LANES; i++) rows[i] = *(const vd_any *)(p->signal + (int64_t)i * hop + n);
            transpose(rows);
            for (int i = 0; i < LANES; i++) out[i] = rows[i] * p->window[n + i];
        }
    }
}

/* From the complex transform to the powers of the real one, float32; `window` holds the factor one half. */
static void powers(const plan *p, const vd *z, vf *out) {
    int half = p->half;
    vd sum = (z[0] + z[1]) * 2.0, difference = (z[0] - z[1]) * 2.0; /* slot[0] is 0 */
    out[0] = __builtin_convertvector(sum * sum, vf);
    out[half] = __builtin_convertvector(difference * difference, vf);
    for (int k = 1; 2 * k <= half; k++) {
        cv a = load(z, p->slot[k]), b = load(z, p->slot[half - k]);
        double c = p->turn[2 * k], s = p->turn[2 * k + 1];
        vd er = a.re + b.re, ei = a.im - b.im, dr = a.re - b.re, di = a.im + b.im;
        vd tr = di * c - dr * s, ti = dr * c + di * s; /* the turned odd part is tr - i ti */
        vd pr = er + tr, pi = ei - ti, qr = er - tr, qi = ei + ti;
        out[k] = __builtin_convertvector(pr * pr + pi * pi, vf);
        out[half - k] = __builtin_convertvector(qr * qr + qi * qi, vf);
    }
}

/* ------------------------------------------------------------------------------------------------ one value a lane */

INLINE vf choose(vi mask, vf yes, vf no) { return (vf)(((vi)yes & mask) | ((vi)no & ~mask)); }
INLINE vf at_least(vf x, vf least) { return choose(x > least, x, least); }
INLINE vf at_most(vf x, vf most) { return choose(x < most, x, most); }

/* ln of positive normal numbers: m in [sqrt(1/2), sqrt(2)), a polynomial in m - 1 (S. Moshier's, Cephes logf). */
INLINE vf natural_log(vf x) {
    vi bits = (vi)x - 0x3f3504f3;
    vf e = __builtin_convertvector(bits >> 23, vf), r = (vf)((bits & 0x007fffff) + 0x3f3504f3) - 1.0f, z = r * r;
    vf y = r * 7.0376836292e-2f - 1.1514610310e-1f;
    y = y * r + 1.1676998740e-1f;
    y = y * r - 1.2420140846e-1f;
    y = y * r + 1.4249322787e-1f;
    y = y * r - 1.6668057665e-1f;
    y = y * r + 2.0000714765e-1f;
    y = y * r - 2.4999993993e-1f;
    y = y * r + 3.3333331174e-1f;
    y = y * r * z - e * 2.12194440e-4f - z * 0.5f;
    return e * 0.693359375f + (r + y);
}

/* Filters, logarithm and statistics of one block; `lanes` marks the frames that exist, `written` those overwritten. */
static vi block(const plan *p, vi lanes, vi written) {
    const settings *s = &p->s;
    vi bad = {0};
    const float *w = p->weights;
    for (int m = 0; m < s->n_mels; m++) {
        const vf *in = p->spectrum + p->low[m];
        int size = p->high[m] - p->low[m], k = 0;
        vf a = {0}, b = {0};
        for (; k + 1 < size; k += 2) {
            a += in[k] * w[k];
            b += in[k + 1] * w[k + 1];
        }
        if (k < size) a += in[k] * w[k];
        w += size;
        vf x = a + b;
        bad |= ~(x <= FLT_MAX);
        if (s->log != LOG_NONE) {
            if (s->guard == GUARD_CLAMP) x = at_least(x, (vf){0} + s->log_eps);
            if (s->guard == GUARD_ADD) x += s->log_eps;
            bad |= ~(x >= FLT_MIN);
            x = natural_log(x);
            if (s->log_scale != 1.0f) x *= s->log_scale;
        }
        if (s->affine) x = x * s->post_scale + s->post_offset;
        if (s->has_mean) x -= p->mean[m];
        if (s->has_std) x /= p->std[m];
        if (s->has_low) x = at_least(x, (vf){0} + s->clip_low);
        if (s->has_high) x = at_most(x, (vf){0} + s->clip_high);
        x = choose(written, (vf){0} + s->overwrite_value, x);

        vf counted = choose(lanes, x, (vf){0});
        vd wide = __builtin_convertvector(counted, vd);
        p->s1[m] += wide;
        p->s2[m] += wide * wide;
        vf low = choose(lanes, x, (vf){0} + INFINITY), high = choose(lanes, x, (vf){0} - INFINITY), was = p->lowest[m];
        vi lower = low < was;
        p->at_lowest[m] = ((p->at_lowest[m] - (low == was)) & ~lower) - lower; /* a true comparison is -1 */
        p->lowest[m] = choose(lower, low, was);
        p->highest[m] = at_least(high, p->highest[m]);
        if (s->has_floor) p->at_floor[m] -= low <= s->floor;

        /* Keys beyond the table are clamped; the extremes tell, and the result is thrown away. */
        vf scaled = at_most(at_least(x * 256.0f, (vf){0} - (float)KEY_ZERO), (vf){0} + (float)(KEY_ZERO - 1));
        vi key = __builtin_convertvector(scaled, vi);
        key += scaled < __builtin_convertvector(key, vf);
        for (int i = 0; i < LANES; i++) p->histogram[(key[i] + KEY_ZERO) * TABLES + i % TABLES] -= lanes[i];
    }
    return bad & lanes;
}

static int has_nan_or_inf(const void *samples, int kind, int64_t length) {
    int bad = 0;
    if (kind == FLOAT32) {
        const float *x = samples;
        for (int64_t i = 0; i < length; i++) bad |= !(fabsf(x[i]) <= FLT_MAX);
    } else if (kind == FLOAT64) {
        const double *x = samples;
        for (int64_t i = 0; i < length; i++) bad |= !(fabs(x[i]) <= DBL_MAX);
    }
    return bad;
}

/* ------------------------------------------------------------------------------------------------ what Python calls */

static void *zeroed(size_t count, size_t size) {
    size_t bytes = (count * size + 127) / 64 * 64;
    void *memory = aligned_alloc(64, bytes);
    if (memory) memset(memory, 0, bytes);
    return memory;
}

API const char *calib_source(void) { return SOURCE_DIGEST; }
API int calib_lanes(void) { return LANES; }

/* Whether this processor (and system) has what a variant was compiled for; only the generic library is asked. */
API int calib_supports(const char *name) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_cpu_init();
    int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (!strcmp(name, "avx2")) return avx2;
    if (!strcmp(name, "avx512"))
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
#endif
    return !strcmp(name, "generic");
}

API void calib_free(plan *p) {
    if (!p) return;
    for (int i = 0; i < p->n_pass; i++) free(p->twiddle[i]);
    void *all[] = {p->window,  p->turn,     p->slot, p->low, p->high,   p->weights, p->mean,      p->std,      p->signal,
                   p->work,    p->spectrum, p->s1,   p->s2,  p->lowest, p->highest, p->at_lowest, p->at_floor, p->histogram};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    free(p);
}

static int factors(plan *p) {
    static const int order[] = {5, 3, 2, 4, 8}; /* the last passes are the widest: what is left over comes first */
    int rest = p->half, twos = 0;
    while (rest % 2 == 0) rest /= 2, twos++;
    for (int i = 0; i < 2; i++)
        for (; rest % order[i] == 0; rest /= order[i]) p->radix[p->n_pass++] = order[i];
    if (rest != 1) return 0;
    if (twos % 3) p->radix[p->n_pass++] = order[1 + twos % 3];
    for (int i = 0; i < twos / 3; i++) p->radix[p->n_pass++] = 8;
    return p->n_pass > 0;
}

static int tables(plan *p, const double *window, const float *bank, const float *mean, const float *std) {
    const settings *s = &p->s;
    const double turn = 6.28318530717958647693;
    int n = s->n_fft, half = p->half, bins = half + 1, padded = n + LANES, weights = 0;
    int length = half, block = half / p->radix[0];
    p->gap = block % LANES == 0 && block >= 64 ? LANES : 0; /* else the 8 inputs of a butterfly share one cache set */
    for (int level = 0; level < p->n_pass; level++) {
        int radix = p->radix[level], inside = length / radix;
        if (!(p->twiddle[level] = zeroed((size_t)inside * (radix - 1) * 2, sizeof(double)))) return 0;
        for (int j = 0; j < inside; j++)
            for (int q = 1; q < radix; q++) {
                double angle = turn * (double)((int64_t)j * q % length) / length, *w = p->twiddle[level] + 2 * ((size_t)j * (radix - 1) + q - 1);
                w[0] = cos(angle);
                w[1] = -sin(angle);
            }
        length = inside;
    }
    p->window = zeroed((size_t)padded, sizeof(double));
    p->turn = zeroed((size_t)(half + 2) * 2, sizeof(double));
    p->slot = zeroed((size_t)half, sizeof(int32_t));
    p->low = zeroed((size_t)s->n_mels, sizeof(int32_t));
    p->high = zeroed((size_t)s->n_mels, sizeof(int32_t));
    p->weights = zeroed((size_t)s->n_mels * bins, sizeof(float));
    p->mean = zeroed((size_t)s->n_mels, sizeof(float));
    p->std = zeroed((size_t)s->n_mels, sizeof(float));
    p->signal = zeroed((size_t)(LANES - 1) * s->hop + padded, sizeof(double));
    p->work = zeroed((size_t)padded + 2 * (size_t)p->gap * p->radix[0], sizeof(vd));
    p->spectrum = zeroed((size_t)bins, sizeof(vf));
    p->s1 = zeroed((size_t)s->n_mels, sizeof(vd));
    p->s2 = zeroed((size_t)s->n_mels, sizeof(vd));
    p->lowest = zeroed((size_t)s->n_mels, sizeof(vf));
    p->highest = zeroed((size_t)s->n_mels, sizeof(vf));
    p->at_lowest = zeroed((size_t)s->n_mels, sizeof(vi));
    p->at_floor = zeroed((size_t)s->n_mels, sizeof(vi));
    p->histogram = calloc((size_t)KEYS * TABLES, sizeof(uint32_t)); /* untouched pages cost nothing */
    if (!p->window || !p->turn || !p->slot || !p->low || !p->high || !p->weights || !p->mean || !p->std || !p->signal || !p->work ||
        !p->spectrum || !p->s1 || !p->s2 || !p->lowest || !p->highest || !p->at_lowest || !p->at_floor || !p->histogram)
        return 0;
    p->first = n;
    for (int i = 0; i < n; i++) {
        p->window[i] = 0.5 * window[i];
        if (window[i] != 0.0) {
            if (p->first == n) p->first = i / LANES * LANES;
            p->last = i + 1;
        }
    }
    for (int k = 0; k <= half; k++) {
        p->turn[2 * k] = cos(turn * k / n);
        p->turn[2 * k + 1] = sin(turn * k / n);
    }
    for (int k = 0; k < half; k++) { /* bin k = q + radix * (bin of sub-transform q) */
        int at = 0, rest = k, size = half;
        for (int level = 0; level < p->n_pass; level++) {
            size /= p->radix[level];
            at += rest % p->radix[level] * (size + (level ? 0 : p->gap));
            rest /= p->radix[level];
        }
        p->slot[k] = at;
    }
    for (int m = 0; m < s->n_mels; m++) {
        const float *row = bank + (size_t)m * bins;
        int low = 0, high = bins;
        while (low < high && row[low] == 0.0f) low++;
        while (high > low && row[high - 1] == 0.0f) high--;
        p->low[m] = low;
        p->high[m] = high;
        memcpy(p->weights + weights, row + low, (size_t)(high - low) * sizeof(float));
        weights += high - low;
        if (mean) p->mean[m] = mean[m];
        if (std) p->std[m] = std[m];
    }
    return 1;
}

/* A plan for one front end, or NULL: no memory, or an n_fft that is odd or has another prime factor than 2, 3 and 5.
 * `window` has n_fft values, `bank` is (n_mels, n_fft / 2 + 1), `mean` and `std` n_mels or NULL. */
API plan *calib_plan(const settings *s, const double *window, const float *bank, const float *mean, const float *std) {
    if (s->n_fft < 4 || s->n_fft % 2) return NULL;
    plan *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->s = *s;
    p->half = s->n_fft / 2;
    if (factors(p) && tables(p, window, bank, mean, std)) return p;
    calib_free(p);
    return NULL;
}

/* The statistics of `frames` frames of one utterance.
 *
 * samples: prepared, `length` of `kind`, mono. s1, s2, low, high, at_floor: n_mels values each. span: the key of the
 * first histogram bin, and how many bins; counts: room for MOST_BINS. Returns DONE, or NOT_HERE where a sample or a value
 * is not finite, a value lies outside [-512, 512) or they span 256: nothing that was written then means anything. */
API int calib_measure(plan *p, const void *samples, int kind, int64_t length, int64_t frames, double *s1, double *s2,
                      float *low, float *high, int64_t *at_floor, int64_t *at_low, int64_t *span, int64_t *counts) {
    const settings *s = &p->s;
    int n_mels = s->n_mels, n_fft = s->n_fft;
    if (frames < 1 || frames > INT32_MAX || has_nan_or_inf(samples, kind, length)) return NOT_HERE;
    for (int m = 0; m < n_mels; m++) {
        p->s1[m] = p->s2[m] = (vd){0};
        p->lowest[m] = (vf){0} + INFINITY;
        p->highest[m] = (vf){0} - INFINITY;
        p->at_lowest[m] = p->at_floor[m] = (vi){0};
    }
    vi bad = {0};
    int room = (LANES - 1) * s->hop + n_fft;
    for (int64_t t = 0; t < frames; t += LANES) {
        int valid = frames - t < LANES ? (int)(frames - t) : LANES, count = (valid - 1) * s->hop + n_fft;
        fetch(s, samples, kind, length, t * s->hop, count, p->signal);
        memset(p->signal + count, 0, (size_t)(room - count) * sizeof(double));
        frames_in(p, p->work);
        transform(p, 0, p->work, p->half);
        powers(p, p->work, p->spectrum);
        float *x = (float *)p->spectrum;
        int size = (p->half + 1) * LANES;
        if (s->eps_mode == EPS_ADD)
            for (int i = 0; i < size; i++) x[i] += s->eps;
        if (s->eps_mode == EPS_CLAMP)
            for (int i = 0; i < size; i++) x[i] = x[i] > s->eps ? x[i] : s->eps;
        if (s->power == 1)
            for (int i = 0; i < size; i++) x[i] = sqrtf(x[i]);
        vi lanes, written;
        for (int i = 0; i < LANES; i++) {
            lanes[i] = i < valid ? -1 : 0;
            written[i] = t + i >= frames - s->overwrite ? -1 : 0;
        }
        bad |= block(p, lanes, written);
    }
    int irregular = 0;
    float lowest = INFINITY, highest = -INFINITY;
    for (int i = 0; i < LANES; i++) irregular |= bad[i];
    for (int m = 0; m < n_mels; m++) {
        s1[m] = s2[m] = 0.0;
        low[m] = INFINITY;
        high[m] = -INFINITY;
        at_floor[m] = 0;
        for (int i = 0; i < LANES; i++) {
            s1[m] += p->s1[m][i];
            s2[m] += p->s2[m][i];
            low[m] = p->lowest[m][i] < low[m] ? p->lowest[m][i] : low[m];
            high[m] = p->highest[m][i] > high[m] ? p->highest[m][i] : high[m];
            at_floor[m] += p->at_floor[m][i];
        }
        lowest = low[m] < lowest ? low[m] : lowest;
        highest = high[m] > highest ? high[m] : highest;
        irregular |= !(fabs(s2[m]) <= DBL_MAX);
    }
    *at_low = 0;
    for (int m = 0; m < n_mels; m++)
        for (int i = 0; i < LANES; i++)
            if (p->lowest[m][i] == lowest) *at_low += p->at_lowest[m][i];
    irregular |= !(lowest * 256.0f >= -(float)KEY_ZERO && highest * 256.0f < (float)KEY_ZERO);
    irregular = irregular || floorf(highest * 256.0f) - floorf(lowest * 256.0f) >= MOST_BINS;
    if (irregular) {
        memset(p->histogram, 0, (size_t)KEYS * TABLES * sizeof(uint32_t));
        return NOT_HERE;
    }
    int first = (int)floorf(lowest * 256.0f) + KEY_ZERO, last = (int)floorf(highest * 256.0f) + KEY_ZERO;
    uint32_t *table = p->histogram + (size_t)first * TABLES;
    span[0] = first - KEY_ZERO;
    span[1] = last - first + 1;
    for (int64_t i = 0; i < span[1]; i++) {
        counts[i] = 0;
        for (int j = 0; j < TABLES; j++) counts[i] += table[i * TABLES + j];
    }
    memset(table, 0, (size_t)span[1] * TABLES * sizeof(uint32_t));
    return DONE;
}

/* --------------------------------------------------------------------------------------------- moments of paired values
 *
 * Prediction and target, float32, in one pass over memory: a block of rows is summed as it streams in, then read again
 * from the cache, about its own means, so that nothing cancels; blocks are merged after Chan, Golub and LeVeque, "Updating
 * formulae and a pairwise algorithm for computing sample variances" (1979). All sums are float64. */

enum { BLOCK = 256, PANEL = 512 }; /* rows; columns, so that a block's means fit on the stack */

INLINE void centred(const float *x, const float *y, int64_t rows, int64_t xs, int64_t ys, const double *mx, const double *my, double *xx, double *yy, double *xy) {
    vd a[3] = {{0}}, b[3] = {{0}}, ma = *(const vd_any *)mx, na = *(const vd_any *)my, mb = *(const vd_any *)(mx + LANES), nb = *(const vd_any *)(my + LANES);
    for (int64_t t = 0; t < rows; t++, x += xs, y += ys) {
        vd u = __builtin_convertvector(*(const vf_any *)x, vd) - ma, v = __builtin_convertvector(*(const vf_any *)y, vd) - na;
        a[0] += u * u, a[1] += v * v, a[2] += u * v;
        u = __builtin_convertvector(*(const vf_any *)(x + LANES), vd) - mb, v = __builtin_convertvector(*(const vf_any *)(y + LANES), vd) - nb;
        b[0] += u * u, b[1] += v * v, b[2] += u * v;
    }
    *(vd_any *)xx = a[0], *(vd_any *)yy = a[1], *(vd_any *)xy = a[2];
    *(vd_any *)(xx + LANES) = b[0], *(vd_any *)(yy + LANES) = b[1], *(vd_any *)(xy + LANES) = b[2];
}

/* Columns [0, width) of a block; five rows of PANEL values: means of x and y, sums of (x - mean)^2, (y - mean)^2 and both. */
static void block_moments(const float *x, const float *y, int64_t rows, int width, int64_t xs, int64_t ys, double (*out)[PANEL]) {
    memset(out[0], 0, (size_t)width * sizeof(double));
    memset(out[1], 0, (size_t)width * sizeof(double));
    for (int64_t t = 0; t < rows; t++) {
        const float *a = x + t * xs, *b = y + t * ys;
        for (int m = 0; m < width; m++) out[0][m] += (double)a[m];
        for (int m = 0; m < width; m++) out[1][m] += (double)b[m];
    }
    for (int m = 0; m < width; m++) out[0][m] /= (double)rows, out[1][m] /= (double)rows;
    int m = 0;
    for (; m + 2 * LANES <= width; m += 2 * LANES)
        centred(x + m, y + m, rows, xs, ys, out[0] + m, out[1] + m, out[2] + m, out[3] + m, out[4] + m);
    for (; m < width; m++) {
        double xx = 0, yy = 0, xy = 0;
        for (int64_t t = 0; t < rows; t++) {
            double u = (double)x[t * xs + m] - out[0][m], v = (double)y[t * ys + m] - out[1][m];
            xx += u * u, yy += v * v, xy += u * v;
        }
        out[2][m] = xx, out[3][m] = yy, out[4][m] = xy;
    }
}

/* x, y: (rows, columns), rows xs and ys values apart. out: five rows of `columns` values as in block_moments. */
API void calib_pair_moments(const float *x, const float *y, int64_t rows, int64_t columns, int64_t xs, int64_t ys, double *out) {
    double here[5][PANEL];
    for (int64_t from = 0; from < columns; from += PANEL) {
        int width = columns - from < PANEL ? (int)(columns - from) : PANEL;
        double *to[5];
        for (int i = 0; i < 5; i++) to[i] = out + i * columns + from;
        for (int64_t done = 0; done < rows; done += BLOCK) {
            int64_t more = rows - done < BLOCK ? rows - done : BLOCK;
            block_moments(x + done * xs + from, y + done * ys + from, more, width, xs, ys, here);
            double share = (double)more / (double)(done + more), weight = share * (double)done;
            for (int m = 0; m < width; m++) {
                if (!done) {
                    for (int i = 0; i < 5; i++) to[i][m] = here[i][m];
                    continue;
                }
                double dx = here[0][m] - to[0][m], dy = here[1][m] - to[1][m];
                to[0][m] += dx * share;
                to[1][m] += dy * share;
                to[2][m] += here[2][m] + dx * dx * weight;
                to[3][m] += here[3][m] + dy * dy * weight;
                to[4][m] += here[4][m] + dx * dy * weight;
            }
        }
    }
}
