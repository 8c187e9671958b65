//! Every distinct convolution of the networks, with the batch each is trained at.
//!
//! The lists follow the constructors in `phiz-backbones` and of the digits networks; for the former a test adds their multiply-accumulates up
//! and compares with what the networks count of themselves, so that a list cannot fall behind.

use std::collections::BTreeSet;

use super::cases::{BenchNetwork, Convolution};

/// Distinct convolutions in the order of the networks, each with the networks that have it.
pub(crate) fn convolutions() -> Vec<(Convolution, BTreeSet<BenchNetwork>)> {
    let mut all: Vec<(Convolution, BTreeSet<BenchNetwork>)> = Vec::new();
    let depthwise = square((16, 64), 56, 64, 3, 1, 64);
    all.push((depthwise, BTreeSet::new()));
    for network in BenchNetwork::ALL {
        for (convolution, _) in of(network) {
            match all.iter_mut().find(|(known, _)| *known == convolution) {
                Some((_, users)) => {
                    users.insert(network);
                }
                None => all.push((convolution, BTreeSet::from([network]))),
            }
        }
    }
    all
}

/// The convolutions of one network with how often each stands in it.
fn of(network: BenchNetwork) -> Vec<(Convolution, u64)> {
    match network {
        BenchNetwork::Iresnet18 => iresnet18(),
        BenchNetwork::Mobilefacenet => mobilefacenet(),
        BenchNetwork::Expression => expression(),
        BenchNetwork::Digits => digits(),
    }
}

/// Padded so that stride 1 keeps the side: `(batch, channels), image, outputs, kernel, stride, groups`.
fn square(
    (batch, channels): (usize, usize),
    image: usize,
    outputs: usize,
    kernel: usize,
    stride: usize,
    groups: usize,
) -> Convolution {
    Convolution {
        batch,
        channels,
        image,
        outputs,
        kernel,
        stride,
        padding: kernel / 2,
        groups,
        transposed: false,
    }
}

fn iresnet18() -> Vec<(Convolution, u64)> {
    let batch = BenchNetwork::Iresnet18.batch();
    let mut all = vec![(square((batch, 3), 112, 64, 3, 1, 1), 1)];
    let (mut from, mut image) = (64, 112);
    for to in [64, 128, 256, 512] {
        all.push((square((batch, from), image, to, 3, 1, 1), 1));
        all.push((square((batch, to), image, to, 3, 2, 1), 1));
        all.push((square((batch, from), image, to, 1, 2, 1), 1));
        image /= 2;
        all.push((square((batch, to), image, to, 3, 1, 1), 2));
        from = to;
    }
    all
}

fn mobilefacenet() -> Vec<(Convolution, u64)> {
    let batch = BenchNetwork::Mobilefacenet.batch();
    let mut all = vec![
        (square((batch, 3), 112, 128, 3, 2, 1), 1),
        (square((batch, 128), 56, 128, 3, 1, 64), 1),
    ];
    let mut bottleneck = |from, inner, to, image, stride, count| {
        all.push((square((batch, from), image, inner, 1, 1, 1), count));
        all.push((
            square((batch, inner), image, inner, 3, stride, inner),
            count,
        ));
        all.push((square((batch, inner), image / stride, to, 1, 1, 1), count));
    };
    // From, to, inner width of the step down and of the blocks behind it, how many of these, image.
    for (from, to, down, inner, count, image) in [
        (128, 128, 128, 128, 4, 56),
        (128, 256, 256, 256, 6, 28),
        (256, 256, 512, 256, 2, 14),
    ] {
        bottleneck(from, down, to, image, 2, 1);
        bottleneck(to, inner, to, image / 2, 1, count);
    }
    all.push((square((batch, 256), 7, 512, 1, 1, 1), 1));
    let whole = Convolution {
        padding: 0,
        ..square((batch, 512), 7, 512, 7, 1, 512)
    };
    all.push((whole, 1));
    all
}

fn expression() -> Vec<(Convolution, u64)> {
    let batch = BenchNetwork::Expression.batch();
    let mut all = vec![
        (square((batch, 3), 64, 16, 3, 1, 1), 1),
        (square((batch, 16), 32, 32, 3, 1, 1), 1),
        (square((batch, 32), 16, 48, 3, 1, 1), 1),
    ];
    // one, reduce3, three, reduce5, five, pool
    let mixes = [
        (16, [16, 24, 32, 8, 16, 16]),
        (16, [24, 32, 48, 8, 16, 16]),
        (8, [32, 40, 64, 12, 24, 24]),
        (8, [48, 48, 80, 16, 32, 32]),
    ];
    let mut from = 48;
    for (image, [one, reduce3, three, reduce5, five, pool]) in mixes {
        for to in [one, reduce3, reduce5, pool] {
            all.push((square((batch, from), image, to, 1, 1, 1), 1));
        }
        all.push((square((batch, reduce3), image, three, 3, 1, 1), 1));
        all.push((square((batch, reduce5), image, five, 3, 1, 1), 1));
        all.push((square((batch, five), image, five, 3, 1, 1), 1));
        from = one + three + five + pool;
    }
    all
}

fn digits() -> Vec<(Convolution, u64)> {
    let batch = BenchNetwork::Digits.batch();
    let up = |channels, image, outputs| Convolution {
        padding: 1,
        transposed: true,
        ..square((batch, channels), image, outputs, 4, 2, 1)
    };
    vec![
        (square((batch, 1), 28, 64, 5, 2, 1), 1),
        (square((batch, 64), 14, 128, 5, 2, 1), 1),
        (up(128, 7, 64), 1),
        (up(64, 14, 32), 1),
        (square((batch, 32), 28, 1, 3, 1, 1), 1),
    ]
}

#[cfg(test)]
mod tests {
    use candle::{DType, Device};
    use candle_nn::VarBuilder;
    use phiz_backbones::{
        ExpressionNet, ExpressionNetConfig, IResNetConfig, MobileFaceNetConfig, iresnet18,
        mobilefacenet,
    };

    use super::*;

    #[test]
    fn the_lists_add_up_to_the_networks() {
        let zeros = || VarBuilder::zeros(DType::F32, &Device::Cpu);
        let sum = |network| -> u64 {
            of(network)
                .iter()
                .map(|(convolution, count)| convolution.macs() * count)
                .sum()
        };
        let linear = 512 * 49 * 512;
        let net = iresnet18(IResNetConfig::default(), zeros()).unwrap();
        assert_eq!(sum(BenchNetwork::Iresnet18) + linear, net.macs());
        let net = mobilefacenet(MobileFaceNetConfig::default(), zeros()).unwrap();
        assert_eq!(sum(BenchNetwork::Mobilefacenet) + 512 * 512, net.macs());
        let net = ExpressionNet::new(ExpressionNetConfig::default(), zeros()).unwrap();
        let features = net.features() as u64;
        let linear = features * 256 + 256 * 128 + 128 * 7 + (features + 256) * 128;
        assert_eq!(sum(BenchNetwork::Expression) + linear, net.macs());
    }

    #[test]
    fn each_convolution_stands_once() {
        let all = convolutions();
        let distinct: BTreeSet<_> = all.iter().map(|(convolution, _)| convolution).collect();
        assert_eq!(distinct.len(), all.len());
    }
}
