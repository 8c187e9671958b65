//! Manifold similarity: random walks over a batch and learned proxies.

use candle::{
    CpuStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor, WithDType, bail,
};
use candle_nn::{Init, VarBuilder};
use phiz_kernels::pairwise::cosine;

use super::wide;
use crate::ops::{check_embeddings, check_finite, constant, host};
use crate::random;

/// Configuration of [`ManifoldLoss`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ManifoldLossConfig {
    /// K, how many proxies. Default 50.
    pub proxies: usize,
    /// lambda_C, the weight of the context term, not negative; infinity leaves the intrinsic term out. Default 1.
    pub context: f64,
    /// alpha, how much of the similarity a walk passes on, in (0, 1). Default 0.8.
    pub walk: f64,
    /// The margin of both terms. Default 5e-4.
    pub margin: f64,
}

impl Default for ManifoldLossConfig {
    fn default() -> Self {
        Self {
            proxies: 50,
            context: 1.0,
            walk: 0.8,
            margin: 5e-4,
        }
    }
}

/// Manifold similarity loss (Aziere and Todorovic, CVPR 2019), for training without labels.
///
/// Items and K learned proxies are the nodes of a graph with weights `S_ij = exp(2 [cos_ij]_+)`, none from a node to itself;
/// `F = (1 - alpha) (I - alpha D^(-1/2) S D^(-1/2))^(-1)`. With `p(i)` the proxy of item `i` (its meta class), the intrinsic term is
/// `mean_i log(1 + sum_{k != p(i)} [F_ik - F_ip(i) + m >= 0] e^(F_ik - F_ip(i) + m))`, the context term the same over the cosines between rows of F.
///
/// Parameter `proxies` (K, dim), drawn from N(0, 1). Time O((B + K)^3), memory O((B + K)^2).
#[derive(Debug, Clone)]
pub struct ManifoldLoss {
    proxies: Tensor,
    config: ManifoldLossConfig,
}

impl ManifoldLoss {
    /// Takes the proxies out of `vb`, or creates them there.
    ///
    /// # Errors
    /// When the configuration makes no sense, or `vb` holds proxies of another shape.
    pub fn new(dim: usize, config: ManifoldLossConfig, vb: VarBuilder) -> Result<Self> {
        let init = Init::Randn {
            mean: 0.0,
            stdev: 1.0,
        };
        Self::from_proxies(
            vb.get_with_hints((config.proxies, dim), "proxies", init)?,
            config,
        )
    }

    /// Builds the loss from given proxies (K, dim).
    ///
    /// # Errors
    /// When the configuration makes no sense, or the proxies have another shape.
    pub fn from_proxies(proxies: Tensor, config: ManifoldLossConfig) -> Result<Self> {
        let (k, _) = check_embeddings(&wide(&proxies)?)?;
        if k != config.proxies || k == 0 {
            bail!(
                "manifold: {k} proxies where the configuration has {}, at least 1",
                config.proxies
            );
        }
        if !(config.walk > 0.0 && config.walk < 1.0) {
            bail!(
                "manifold: the share of the walk must lie in (0, 1), got {}",
                config.walk
            );
        }
        if config.context.is_nan() || config.context < 0.0 {
            bail!(
                "manifold: the weight of the context must not be negative, got {}",
                config.context
            );
        }
        check_finite("the margin of the manifold loss", config.margin)?;
        Ok(Self { proxies, config })
    }

    /// The proxies (K, dim).
    pub fn proxies(&self) -> &Tensor {
        &self.proxies
    }

    /// The loss.
    ///
    /// # Shapes
    /// `embeddings` (B, D), `meta_classes` B, each below K ([`random_meta_classes`] draws them); result: scalar. An empty batch gives 0.
    ///
    /// # Errors
    /// When shapes or types disagree, a meta class is not below K, or a row holds NaN or infinity.
    pub fn loss(&self, embeddings: &Tensor, meta_classes: &[u32]) -> Result<Tensor> {
        let (x, p) = (wide(embeddings)?, wide(&self.proxies)?);
        let (n, d) = check_embeddings(&x)?;
        let (k, dim) = p.dims2()?;
        if d != dim || meta_classes.len() != n {
            bail!(
                "manifold: embeddings ({n}, {d}), {} meta classes, proxies ({k}, {dim})",
                meta_classes.len()
            );
        }
        if let Some(i) = meta_classes.iter().position(|&c| c as usize >= k) {
            bail!(
                "manifold: meta class {} of item {i} is not below {k}",
                meta_classes[i]
            );
        }
        if n == 0 {
            return crate::ops::zero(&[&x, &p]);
        }
        let nodes = Tensor::cat(&[&x, &p], 0)?;
        if let Some(i) = host(&nodes)?.iter().position(|v| !v.is_finite()) {
            bail!(
                "manifold: row {} of embeddings and proxies holds NaN or infinity",
                i / d
            );
        }
        let all = n + k;
        let eye = Tensor::eye(all, nodes.dtype(), nodes.device())?;
        let others = eye.affine(-1.0, 1.0)?;
        let s = (cosine(&nodes, &nodes)?.relu()? * 2.0)?
            .exp()?
            .mul(&others)?;
        // A single node has no neighbour; its degree is then taken as 1.
        let degree = s.sum_keepdim(1)?;
        let degree = if all == 1 {
            degree.ones_like()?
        } else {
            degree
        };
        let half = degree.sqrt()?.recip()?;
        let walk = s.broadcast_mul(&half)?.broadcast_mul(&half.t()?)?;
        let alpha = self.config.walk;
        let f = (inverse(&(eye - (walk * alpha)?)?)? * (1.0 - alpha))?;
        let (items, proxies) = (f.narrow(0, 0, n)?, f.narrow(0, n, k)?);
        let mut total = None;
        if self.config.context.is_finite() {
            total = Some(self.term(&items.narrow(1, n, k)?, meta_classes)?);
        }
        if self.config.context > 0.0 {
            let weight = if self.config.context.is_finite() {
                self.config.context
            } else {
                1.0
            };
            let c = (self.term(
                &cosine(&items.contiguous()?, &proxies.contiguous()?)?,
                meta_classes,
            )? * weight)?;
            total = Some(match total {
                Some(t) => (t + c)?,
                None => c,
            });
        }
        match total {
            Some(total) => Ok(total),
            None => crate::ops::zero(&[&x, &p]),
        }
    }

    /// `mean_i log(1 + sum of e^z over the active proxies)`, `z` the margin violations of the similarities (n, k).
    fn term(&self, similarity: &Tensor, meta_classes: &[u32]) -> Result<Tensor> {
        let (n, k) = similarity.dims2()?;
        let own: Vec<f64> = meta_classes
            .iter()
            .flat_map(|&c| (0..k).map(move |j| if j == c as usize { 1.0 } else { 0.0 }))
            .collect();
        let mask = constant(own.clone(), (n, k), similarity)?;
        let target = (similarity * &mask)?.sum_keepdim(1)?;
        let z = (similarity.broadcast_sub(&target)? + self.config.margin)?;
        let active: Vec<f64> = host(&z)?
            .iter()
            .zip(&own)
            .map(|(&z, &own)| if own == 0.0 && z >= 0.0 { 1.0 } else { 0.0 })
            .collect();
        let active = constant(active, (n, k), similarity)?;
        ((z.exp()? * active)?.sum(1)? + 1.0)?.log()?.mean_all()
    }
}

/// Meta classes for a batch: each of `proxies` once, the rest at random, in random order; a function of its arguments. A batch
/// smaller than `proxies` gets as many different ones.
pub fn random_meta_classes(batch: usize, proxies: usize, seed: u64, step: u64) -> Vec<u32> {
    const CLASSES: u64 = 0x3a4f_01d5;
    const ORDER: u64 = 0x3a4f_01d6;
    let k = proxies.max(1) as u64;
    let shuffled = |len: usize, purpose: u64| {
        let mut keys: Vec<(u64, usize)> = (0..len)
            .map(|i| (random::bits(seed, purpose, step, i as u64), i))
            .collect();
        keys.sort_unstable();
        keys.into_iter().map(|(_, i)| i)
    };
    let first = shuffled(proxies.max(1), CLASSES).map(|c| c as u32);
    let rest = (0u64..).map(|i| (random::bits(seed, CLASSES, step, k + i) % k) as u32);
    let classes: Vec<u32> = first.chain(rest).take(batch).collect();
    shuffled(batch, ORDER).map(|i| classes[i]).collect()
}

/// The inverse of a well-conditioned matrix, with gradient `-A^-T G A^-T`; computed in f64 on the host.
fn inverse(a: &Tensor) -> Result<Tensor> {
    let device = a.device().clone();
    a.contiguous()?
        .to_device(&Device::Cpu)?
        .apply_op1(Inverse)?
        .to_device(&device)
}

struct Inverse;

impl CustomOp1 for Inverse {
    fn name(&self) -> &'static str {
        "inverse"
    }

    fn cpu_fwd(&self, a: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        fn run<T: WithDType>(a: &CpuStorage, l: &Layout) -> Result<CpuStorage> {
            let Some((lo, hi)) = l.contiguous_offsets() else {
                bail!("inverse: the matrix must be contiguous")
            };
            let n = l.shape().dims2()?.0;
            let values: Vec<f64> = a.as_slice::<T>()?[lo..hi]
                .iter()
                .map(|v| v.to_f64())
                .collect();
            let inverted = invert(values, n)?;
            Ok(T::to_cpu_storage_owned(
                inverted.into_iter().map(T::from_f64).collect(),
            ))
        }
        use candle::backend::BackendStorage;
        let storage = match a.dtype() {
            DType::F64 => run::<f64>(a, l)?,
            _ => run::<f32>(a, l)?,
        };
        Ok((storage, l.shape().clone()))
    }

    fn bwd(&self, _a: &Tensor, inverse: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let t = inverse.t()?.contiguous()?;
        Ok(Some(t.matmul(&grad.contiguous()?)?.matmul(&t)?.neg()?))
    }
}

/// Gauss and Jordan's method in place, with row exchanges.
fn invert(mut a: Vec<f64>, n: usize) -> Result<Vec<f64>> {
    let mut order: Vec<usize> = (0..n).collect();
    for k in 0..n {
        let pivot = (k..n)
            .max_by(|&i, &j| a[i * n + k].abs().total_cmp(&a[j * n + k].abs()))
            .unwrap_or(k);
        let value = a[pivot * n + k];
        if value == 0.0 || !value.is_finite() {
            bail!("inverse: the matrix is singular");
        }
        if pivot != k {
            for j in 0..n {
                a.swap(k * n + j, pivot * n + j);
            }
            order.swap(k, pivot);
        }
        a[k * n + k] = 1.0;
        for v in &mut a[k * n..(k + 1) * n] {
            *v /= value;
        }
        let (above, rest) = a.split_at_mut(k * n);
        let (row, below) = rest.split_at_mut(n);
        for other in above.chunks_exact_mut(n).chain(below.chunks_exact_mut(n)) {
            let factor = std::mem::replace(&mut other[k], 0.0);
            for (o, &r) in other.iter_mut().zip(&*row) {
                *o -= factor * r;
            }
        }
    }
    // Rows were exchanged; the columns of the inverse go back to their places.
    let mut out = vec![0.0; n * n];
    for (j, &to) in order.iter().enumerate() {
        for i in 0..n {
            out[i * n + to] = a[i * n + j];
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::invert;

    #[test]
    fn inverse_times_matrix_is_one() {
        let n = 6;
        let a: Vec<f64> = (0..n * n)
            .map(|i| (1.7 * (i * i + 1) as f64).sin())
            .collect();
        let b = invert(a.clone(), n).unwrap();
        for i in 0..n {
            for j in 0..n {
                let v: f64 = (0..n).map(|k| a[i * n + k] * b[k * n + j]).sum();
                assert!(
                    (v - f64::from(u8::from(i == j))).abs() < 1e-10,
                    "{i} {j} {v}"
                );
            }
        }
        assert!(invert(vec![0.0; 4], 2).is_err());
    }
}
