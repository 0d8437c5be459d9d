/* Exact statistics: rows into fixed-point sums, sums into means and inertia. See exact/fixed_point.py and stats.py.

   Compiled for several instruction sets from the same lines; every operation is IEEE float64 without contraction. */

#define VALUE(convert, x, d) ((double)convert(x[d]) * (t->squared ? (double)convert(x[d]) : weight))
/* One row's values, weighted or squared, cut into limbs and added to them: total (limbs, width) += sign-less pieces. */
#define ADD_ROW(name, type, convert)                                                                              \
    static inline void V(add_##name)(const Tally *t, const type *x, double weight, double *rest, double *total) {  \
        const int dims = t->rows.dims, width = dims + 1;                                                          \
        if (t->limbs == 1) { /* the common cases in one pass over the columns */                                  \
            for (int d = 0; d < dims; d++) total[d] += trunc(VALUE(convert, x, d) * t->down[d]);                  \
            total[dims] += trunc(weight * t->down[dims]);                                                         \
            return;                                                                                               \
        }                                                                                                         \
        if (t->limbs == 2) {                                                                                            \
            const double *down = t->down, *up = t->up;                                                            \
            double *high = total, *low = total + width;                                                           \
            for (int d = 0; d < dims; d++) {                                                                      \
                const double value = VALUE(convert, x, d), piece = trunc(value * down[d]);                        \
                high[d] += piece, low[d] += trunc((value - piece * up[d]) * down[width + d]);                     \
            }                                                                                                     \
            const double piece = trunc(weight * down[dims]);                                                      \
            high[dims] += piece, low[dims] += trunc((weight - piece * up[dims]) * down[width + dims]);            \
            return;                                                                                               \
        }                                                                                                         \
        for (int d = 0; d < dims; d++) rest[d] = VALUE(convert, x, d);                                            \
        rest[dims] = weight;                                                                                      \
        for (int l = 0; l < t->limbs; l++) {                                                                      \
            const double *down = t->down + l * width, *up = t->up + l * width;                                    \
            double *into = total + l * width;                                                                     \
            for (int d = 0; d < width; d++) {                                                                     \
                const double piece = trunc(rest[d] * down[d]);                                                    \
                into[d] += piece, rest[d] -= piece * up[d];                                                       \
            }                                                                                                     \
        }                                                                                                         \
    }
ADD_ROW(f32, float, )
ADD_ROW(f64, double, )
ADD_ROW(f16, uint16_t, half_to_float)
ADD_ROW(bf16, uint16_t, bfloat_to_float)
ADD_ROW(u8, uint8_t, )
ADD_ROW(i8, int8_t, )
#undef ADD_ROW
#undef VALUE

/* total += the rows, which enter a cluster; returns how many of them count. */
static int64_t V(add_rows)(const Tally *t, int64_t first, int64_t count, double *rest, double *total) {
    enum { AHEAD = 8 }; /* also into what the next run adds */
    const int bytes = row_bytes(t->rows.type);
    int64_t counted = 0;
    for (int64_t i = first; i < first + count; i++) {
        const int32_t row = t->entries[i], next = t->entries[i + AHEAD < t->listed ? i + AHEAD : i];
        const void *x = (const char *)t->rows.data + (t->which ? t->which[row] : row) * t->rows.stride * bytes;
        const double weight = t->weights ? t->weights[row] : 1;
        prefetch_row(&t->rows, t->which ? t->which[next] : next);
        counted += weight > 0;
        switch (t->rows.type) {
        case F64: V(add_f64)(t, x, weight, rest, total); break;
        case F16: V(add_f16)(t, x, weight, rest, total); break;
        case BF16: V(add_bf16)(t, x, weight, rest, total); break;
        case U8: V(add_u8)(t, x, weight, rest, total); break;
        case I8: V(add_i8)(t, x, weight, rest, total); break;
        default: V(add_f32)(t, x, weight, rest, total);
        }
    }
    return counted;
}

/* Rows that enter and rows that leave one cluster, added up in float64, which is exact for RUN rows, then in integers: to
   the shared sums by whoever has all of the cluster's rows, else with others. */
static void V(add_run)(const Tally *t, const Run *run, double *scratch) {
    const int width = t->rows.dims + 1, size = width * t->limbs;
    double *rest = scratch, *enter = scratch + width, *leave = enter + size;
    memset(enter, 0, sizeof(double) * (size_t)(2 * size));
    int64_t counted = V(add_rows)(t, run->enter, run->entering, rest, enter);
    counted -= V(add_rows)(t, run->leave, run->leaving, rest, leave);
    int64_t *sums = t->sums + (size_t)run->cluster * (size_t)size;
    if (!run->shared) {
        for (int d = 0; d < size; d++) sums[d] += (int64_t)enter[d] - (int64_t)leave[d];
        t->counts[run->cluster] += counted;
        return;
    }
    for (int d = 0; d < size; d++)
        if (enter[d] != leave[d]) __atomic_fetch_add(sums + d, (int64_t)enter[d] - (int64_t)leave[d], __ATOMIC_RELAXED);
    __atomic_fetch_add(t->counts + run->cluster, counted, __ATOMIC_RELAXED);
}

static void V(tally_part)(void *argument, int part, int parts) {
    Tally *t = argument;
    double *scratch = t->scratch + (size_t)part * (2 * t->limbs + 1) * (t->rows.dims + 1);
    const int64_t share = t->runs / (8 * parts), many = share < 1 ? 1 : share < 16 ? share : 16;
    for (;;) {
        const int64_t first = __atomic_fetch_add(&t->next, many, __ATOMIC_RELAXED);
        if (first >= t->runs) break;
        for (int64_t r = first; r < first + many && r < t->runs; r++) V(add_run)(t, t->run + r, scratch);
    }
}

/* The largest absolute value of every column and the smallest that is not 0, for each part; whether any is not finite. */
#define SCAN(stored, convert)                                                                                     \
    for (int64_t i = from; i < to; i++) {                                                                         \
        const stored *x = (const stored *)s->rows.data + i * s->rows.stride;                                      \
        for (int d = 0; d < dims; d++) {                                                                          \
            const double size = fabs((double)convert(x[d]));                                                      \
            bad |= !(size < INFINITY);                                                                            \
            largest[d] = size > largest[d] ? size : largest[d];                                                   \
            smallest[d] = (size > 0) & (size < smallest[d]) ? size : smallest[d];                                 \
        }                                                                                                         \
    }                                                                                                             \
    break
static void V(scan_part)(void *argument, int part, int parts) {
    Scan *s = argument;
    const int dims = s->rows.dims;
    const int64_t from = s->count * part / parts, to = s->count * (part + 1) / parts;
    double *largest = s->largest + (size_t)part * dims, *smallest = s->smallest + (size_t)part * dims;
    int bad = 0;
    switch (s->rows.type) {
    case F64: SCAN(double, );
    case F16: SCAN(uint16_t, half_to_float);
    case BF16: SCAN(uint16_t, bfloat_to_float);
    case U8: SCAN(uint8_t, );
    case I8: SCAN(int8_t, );
    default: SCAN(float, );
    }
    if (bad) __atomic_store_n(&s->bad, 1, __ATOMIC_RELAXED);
}
#undef SCAN

/* The sum of limbs in float64, and whether that is exact. */
static int V(exact_total)(const int64_t *sums, const double *up, int limbs, int width, double *total) {
    double rest = 0;
    *total = 0;
    for (int l = 0; l < limbs; l++) {
        const double whole = (double)sums[l * width], term = whole * up[l * width], s = *total + term, b = s - *total;
        rest += (*total - (s - b)) + (term - b);
        if ((int64_t)whole != sums[l * width]) return 0;
        *total = s;
    }
    return rest == 0;
}

/* Of neighbours ``low`` < ``high``, between which total / weight lies, the one that it rounds to: one fused operation tells
   on which side of their midpoint it is. Returns 0 where it cannot: where the total is not exact in float64. */
static int V(rounded)(const int64_t *sums, const double *up, int limbs, int width, double weight, float low, float high,
                      float *mean) {
    double total;
    if (!V(exact_total)(sums, up, limbs, width, &total) || nextafterf(low, high) != high) return 0;
    if (!(fabsf(low) > 0x1p-100f && fabsf(high) > 0x1p-100f && weight > 0x1p-400 && weight < 0x1p400)) return 0;
    const double middle = 0.5 * ((double)low + (double)high), over = __builtin_fma(-middle, weight, total);
    *mean = over > 0 || (over == 0 && as_int(low) & 1) ? high : low;
    return 1;
}

/* Means of clusters whose sums changed: float32, with a proof that the rounding is right, or a mark. */
static int64_t V(means_of)(const Means *m, int64_t k, double *total, double *size) {
    const int width = m->dims + 1;
    const int64_t *sums = m->sums + (size_t)k * m->limbs * width;
    int64_t open = 0;
    for (int d = 0; d < width; d++) total[d] = size[d] = 0;
    for (int l = 0; l < m->limbs; l++)
        for (int d = 0; d < width; d++) {
            const double term = (double)sums[l * width + d] * m->up[l * width + d];
            total[d] += term, size[d] += fabs(term);
        }
    const double weight = total[m->dims], inverse = 1 / weight, bound = (2 * m->limbs + 12) * 0x1p-53 * inverse;
    double exact;
    const int whole = V(exact_total)(sums + m->dims, m->up + m->dims, m->limbs, width, &exact) && exact == weight;
    float *mean = m->means + (size_t)k * m->dims;
    uint8_t *mark = m->open + (size_t)k * m->dims;
    for (int d = 0; d < m->dims; d++) {
        const double quotient = total[d] * inverse, error = size[d] * bound;
        const float low = (float)(quotient - error), high = (float)(quotient + error);
        mean[d] = (float)quotient + 0.0f;
        mark[d] = (low != high || !(fabs(quotient) < INFINITY)) && weight > 0;
        if (mark[d] && whole) mark[d] = !V(rounded)(sums + d, m->up + d, m->limbs, width, weight, low, high, mean + d);
        open += mark[d];
    }
    return open;
}

static void V(means_part)(void *argument, int part, int parts) {
    Means *m = argument;
    double *scratch = m->scratch + (size_t)part * 2 * (m->dims + 1);
    int64_t open = 0;
    for (int64_t i = m->count * part / parts; i < m->count * (part + 1) / parts; i++)
        open += V(means_of)(m, i, scratch, scratch + m->dims + 1);
    __atomic_fetch_add(&m->opened, open, __ATOMIC_RELAXED);
}

/* sum over columns of c (W c - 2 S) in double-double, LANES8 columns side by side; magnitude: sum of |terms|. The
   products and sums of a double-double err by 2**-102 of their terms; a lane adds dims / 8 of them one after another. */
static void V(inertia_of)(const Inertia *n, int64_t k) {
    enum { SIDE = 8 };
    const int width = n->dims + 1;
    const int64_t *sums = n->sums + (size_t)k * n->limbs * width;
    const float *c32 = n->wide ? 0 : (const float *)n->centroids + (size_t)k * n->dims;
    const double *c64 = n->wide ? (const double *)n->centroids + (size_t)k * n->dims : 0;
    double w_high = 0, w_low = 0, w_size = 0;
    for (int l = 0; l < n->limbs; l++) {
        const int64_t limb = sums[l * width + n->dims];
        const double whole = (double)limb, unit = n->unit[l * width + n->dims];
        double h = whole * unit, e = (double)(limb - (int64_t)whole) * unit, s, bb;
        w_size += fabs(h);
        s = w_high + h, bb = s - w_high;
        e += w_low + ((w_high - (s - bb)) + (h - bb));
        w_high = s + e, w_low = e - (w_high - s);
    }
    double high[SIDE] = {0}, low[SIDE] = {0}, size[SIDE] = {0};
    for (int from = 0; from < n->dims; from += SIDE) {
        const int many = n->dims - from < SIDE ? n->dims - from : SIDE;
        double c[SIDE] = {0}, s_high[SIDE] = {0}, s_low[SIDE] = {0}, s_size[SIDE] = {0};
        for (int j = 0; j < many; j++) c[j] = (c32 ? c32[from + j] : c64[from + j]) * n->scale;
        for (int l = 0; l < n->limbs; l++) {
            double limb_high[SIDE] = {0}, limb_low[SIDE] = {0};
            for (int j = 0; j < many; j++) {
                const int64_t limb = sums[l * width + from + j];
                const double whole = (double)limb, unit = n->unit[l * width + from + j];
                limb_high[j] = -2 * (whole * unit), limb_low[j] = -2 * ((double)(limb - (int64_t)whole) * unit);
            }
            for (int j = 0; j < SIDE; j++) {
                const double h = limb_high[j], s = s_high[j] + h, bb = s - s_high[j];
                const double e = limb_low[j] + (s_low[j] + ((s_high[j] - (s - bb)) + (h - bb)));
                s_size[j] += fabs(h), s_high[j] = s + e, s_low[j] = e - (s_high[j] - s);
            }
        }
        for (int j = 0; j < SIDE; j++) {
            double p = w_high * c[j], e = __builtin_fma(w_high, c[j], -p) + w_low * c[j], s, bb;
            s = p + s_high[j], bb = s - p; /* W c - 2 S */
            e += s_low[j] + ((p - (s - bb)) + (s_high[j] - bb));
            const double a = s + e, b = e - (a - s);
            p = a * c[j], e = __builtin_fma(a, c[j], -p) + b * c[j]; /* times c */
            s = high[j] + p, bb = s - high[j];
            e += low[j] + ((high[j] - (s - bb)) + (p - bb));
            high[j] = s + e, low[j] = e - (high[j] - s);
            size[j] += fabs(c[j]) * (fabs(c[j]) * w_size + s_size[j]);
        }
    }
    double sum_high = 0, sum_low = 0, sum_size = 0;
    for (int j = 0; j < SIDE; j++) {
        const double s = sum_high + high[j], bb = s - sum_high;
        const double e = sum_low + low[j] + ((sum_high - (s - bb)) + (high[j] - bb));
        sum_high = s + e, sum_low = e - (sum_high - s), sum_size += size[j];
    }
    n->high[k] = sum_high, n->low[k] = sum_low, n->size[k] = sum_size;
}

static void V(inertia_part)(void *argument, int part, int parts) {
    const Inertia *n = argument;
    for (int64_t i = n->count * part / parts; i < n->count * (part + 1) / parts; i++) V(inertia_of)(n, n->which[i]);
}

/* A stored row as float64. */
#define WIDEN(stored, convert) \
    for (int d = 0; d < rows->dims; d++) out[d] = (double)convert(((const stored *)from)[d])
static void V(widened)(const Rows *rows, int64_t i, double *out) {
    const char *from = (const char *)rows->data + i * rows->stride * row_bytes(rows->type);
    switch (rows->type) {
    case F64: WIDEN(double, ); break;
    case F16: WIDEN(uint16_t, half_to_float); break;
    case BF16: WIDEN(uint16_t, bfloat_to_float); break;
    case U8: WIDEN(uint8_t, ); break;
    case I8: WIDEN(int8_t, ); break;
    default: WIDEN(float, );
    }
}
#undef WIDEN

/* Squares are cut by adding and subtracting ``split``, which rounds them to a multiple of the unit. */
static void V(squares_part)(void *argument, int part, int parts) {
    enum { TOGETHER = 2 };
    Squares *s = argument;
    const int width = (s->rows.dims + 15) / 16 * 16;
    const int64_t end = s->count * (part + 1) / parts;
    double *row = s->scratch + (size_t)part * width;
    memset(row, 0, sizeof(double) * (size_t)width);
    for (int64_t from = s->count * part / parts, to; from < end; from = to) {
        V(vec_f64) sum[SQUARE_LIMBS][TOGETHER], split[SQUARE_LIMBS];
        for (int l = 0; l < SQUARE_LIMBS; l++) {
            split[l] = SET1_F64(s->split[l]);
            for (int j = 0; j < TOGETHER; j++) sum[l][j] = SET1_F64(0);
        }
        to = from + s->flush < end ? from + s->flush : end;
        for (int64_t i = from; i < to; i++) {
            V(widened)(&s->rows, i, row);
            for (int d = 0; d < width; d += TOGETHER * LANES / 2)
                for (int j = 0; j < TOGETHER; j++) {
                    V(vec_f64) x;
                    memcpy(&x, row + d + j * LANES / 2, sizeof x);
                    x *= x;
                    for (int l = 0; l < SQUARE_LIMBS; l++) {
                        const V(vec_f64) piece = (x + split[l]) - split[l];
                        sum[l][j] += piece, x -= piece;
                    }
                }
        }
        for (int l = 0; l < SQUARE_LIMBS; l++) {
            double lane[TOGETHER * LANES / 2];
            memcpy(lane, sum[l], sizeof lane);
            for (int j = 0; j < TOGETHER * LANES / 2; j++)
                __atomic_fetch_add(s->limbs + l, (int64_t)(lane[j] / s->unit[l]), __ATOMIC_RELAXED);
        }
    }
}

/* The hash of a row that exact/floats.row_hash gives. */
static int64_t V(hash_of)(const double *values, int dims) {
    uint64_t hash = 0;
    for (int d = 0; d < dims; d++) {
        const double plus = values[d] + 0.0;
        int64_t bits;
        memcpy(&bits, &plus, 8);
        const uint64_t mixed = (uint64_t)(bits ^ (bits >> 29)) * ((uint64_t)(d + 1) * 0x2545F4914F6CDD1D | 1);
        hash += mixed ^ (uint64_t)((int64_t)mixed >> 32);
    }
    return (int64_t)hash;
}

/* The sum of values, which are overwritten, in the fixed order of exact/floats.sum_columns. */
static double V(halved)(double *values, int many) {
    for (int count = many; count > 1; count = count / 2 + count % 2) {
        const int half = count / 2;
        for (int d = 0; d < half; d++) values[d] += values[half + d];
        if (count % 2) values[half] = values[2 * half];
    }
    return many ? values[0] : 0;
}

/* How far rows lie apart, squared, summed over columns. */
static void V(steps_part)(void *argument, int part, int parts) {
    const Steps *s = argument;
    const int dims = s->now.dims;
    double *now = s->scratch + (size_t)part * 2 * dims, *was = now + dims;
    for (int64_t i = s->count * part / parts; i < s->count * (part + 1) / parts; i++) {
        V(widened)(&s->now, i, now);
        V(widened)(&s->was, s->which ? s->which[i] : i, was);
        if (s->hash) s->hash[i] = V(hash_of)(now, dims);
        int moved = 0;
        for (int d = 0; d < dims; d++) {
            const double step = now[d] * s->scale - was[d] * s->scale;
            moved |= now[d] != was[d];
            was[d] = step * step;
        }
        if (s->moved) s->moved[i] = (uint8_t)moved;
        s->shift[i] = V(halved)(was, dims);
    }
}

/* Of row i of ``now`` and row j of ``was``. scratch: 2 dims. */
static double V(step_of)(const Rows *now, int64_t i, const Rows *was, int64_t j, double scale, double *scratch) {
    double *from = scratch + now->dims;
    const int dims = now->dims;
    if (now->type == F32 && was->type == F32) {
        const float *x = (const float *)now->data + i * now->stride, *c = (const float *)was->data + j * was->stride;
        const int half = dims / 2;
        for (int d = 0; d < half; d++) { /* as ``halved`` begins */
            const double step = x[d] * scale - c[d] * scale, other = x[half + d] * scale - c[half + d] * scale;
            from[d] = step * step + other * other;
        }
        if (dims % 2) {
            const double step = x[dims - 1] * scale - c[dims - 1] * scale;
            from[half] = step * step;
        }
        return V(halved)(from, half + dims % 2);
    }
    V(widened)(now, i, scratch), V(widened)(was, j, from);
    for (int d = 0; d < dims; d++) {
        const double step = scratch[d] * scale - from[d] * scale;
        from[d] = step * step;
    }
    return V(halved)(from, dims);
}

/* Means of all rows so far and those that the limb sums add, as Measured.joined of solvers/batch.py forms them. */
static void V(blend_part)(void *argument, int part, int parts) {
    const Blend *b = argument;
    const int dims = b->old.dims, width = dims + 1, last = b->limbs - 1;
    double *old = b->scratch + (size_t)part * (dims + width), *sum = old + dims;
    for (int64_t k = b->count * part / parts; k < b->count * (part + 1) / parts; k++) {
        const int64_t *limbs = b->sums + (size_t)k * (size_t)(b->limbs * width);
        for (int d = 0; d < width; d++) sum[d] = (double)limbs[last * width + d] * b->up[last * width + d];
        for (int l = last - 1; l >= 0; l--)
            for (int d = 0; d < width; d++) sum[d] += (double)limbs[l * width + d] * b->up[l * width + d];
        const double before = b->before[k], after = before + sum[dims];
        V(widened)(&b->old, k, old);
        double *mean = b->means + (size_t)k * dims;
        for (int d = 0; d < dims; d++) mean[d] = (old[d] * before + sum[d]) / after;
        b->gained[k] = sum[dims];
    }
}
