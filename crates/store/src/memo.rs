//! A slot for what the layer above derives from a value once.

use std::any::Any;
use std::fmt;
use std::sync::OnceLock;

/// Holds one value of a type that the store does not know. It is made on first use and lives as long as its owner.
#[derive(Default)]
pub(crate) struct Memo(OnceLock<Box<dyn Any + Send + Sync>>);

impl Memo {
    /// The memo, made by `init` when there is none. Two callers at once: one runs `init`, the other waits.
    ///
    /// # Panics
    /// When the slot already holds another type: an owner has one memo type, chosen by the layer above.
    pub(crate) fn get_or_init<T: Any + Send + Sync>(&self, init: impl FnOnce() -> T) -> &T {
        self.0.get_or_init(|| Box::new(init())).downcast_ref().expect("one owner has one memo type")
    }
}

impl fmt::Debug for Memo {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if self.0.get().is_some() { "Memo(set)" } else { "Memo(empty)" })
    }
}

#[cfg(test)]
mod tests {
    use super::Memo;

    #[test]
    fn init_runs_once() {
        let memo = Memo::default();
        let mut runs = 0;
        for _ in 0..3 {
            let value: &String = memo.get_or_init(|| {
                runs += 1;
                "derived".to_owned()
            });
            assert_eq!(value, "derived");
        }
        assert_eq!(runs, 1);
    }
}
