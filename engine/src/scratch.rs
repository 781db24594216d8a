//! Memory that is used from call to call, for lists of what borrows and so differs in its lifetime each time.

/// An empty list in the memory of another one. `A` and `B` are meant to be one type with two lifetimes: were they of
/// different sizes, the memory would be let go.
pub(crate) fn emptied<A, B>(mut list: Vec<A>) -> Vec<B> {
    list.clear();
    // What is collected from a list's own items lies where these did.
    list.into_iter().map(|_| unreachable!("the list is empty")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_stays() {
        let text = "some text".to_owned();
        let mut list: Vec<&str> = Vec::with_capacity(100);
        list.extend(text.split(' '));
        let (start, capacity) = (list.as_ptr().addr(), list.capacity());
        let empty: Vec<&'static str> = emptied(list);
        drop(text);
        assert_eq!((empty.as_ptr().addr(), empty.capacity(), empty.len()), (start, capacity, 0));
    }
}
